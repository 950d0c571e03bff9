"""From the bytes of a body, which come in pieces, to the bytes of the orders in it."""

import re
from collections.abc import Iterator
from typing import Protocol

from order_service.domain.errors import OrderError


class NotSplittable(OrderError):
    """From here on nobody can tell where an order begins."""


class TooLong:
    """Stands for an order that is longer than it may be, and was not kept."""


TOO_LONG = TooLong()
Part = bytes | TooLong


class Splitter(Protocol):
    """Keeps no more than one order at a time."""

    def feed(self, piece: bytes) -> Iterator[Part]:
        """The orders that end in `piece`. Raises NotSplittable."""
        ...

    def end(self) -> Iterator[Part]:
        """What is left at the end of the body. Raises NotSplittable."""
        ...


class _Kept:
    """The beginning of an order whose end has not come yet."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = bytearray()
        self._too_long = False

    def add(self, piece: bytes) -> None:
        self._too_long = self._too_long or len(self._bytes) + len(piece) > self._bytes_max
        if self._too_long:
            self._bytes.clear()
        else:
            self._bytes += piece

    def take(self, last: bytes) -> Part:
        self.add(last)
        part: Part = TOO_LONG if self._too_long else bytes(self._bytes)
        self._bytes.clear()
        self._too_long = False
        return part


class Lines:
    """NDJSON: each line is an order. Blank lines come out too, as they are."""

    def __init__(self, bytes_max: int) -> None:
        self._kept = _Kept(bytes_max)

    def feed(self, piece: bytes) -> Iterator[Part]:
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield self._kept.take(line)
        self._kept.add(rest)

    def end(self) -> Iterator[Part]:
        yield self._kept.take(b"")


_BETWEEN_ELEMENTS = re.compile(rb"[^ \t\r\n]")
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def _up_to(marks: bytes) -> "re.Pattern[bytes]":
    """What stands before the next of `marks`, or before a string without an end; never tried twice."""
    return re.compile(rb'[^%b"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^%b"]*+)*+' % (marks, marks), re.DOTALL)


_UP_TO_THE_END_OF_AN_ELEMENT = _up_to(rb"\[\]{},")
_UP_TO_A_BRACKET = _up_to(rb"\[\]{}")
_OPENING = b"[{"
_MARKS_MIN, _BYTES_A_MARK = 10_000, 4


class Elements:
    """A JSON array: each element is an order.

    Only brackets, commas and strings are looked at. Whether an element is JSON is for its parser to say. A
    body that is brackets and little else is refused: to count them would take longer than to read orders.
    """

    def __init__(self, bytes_max: int) -> None:
        self._kept = _Kept(bytes_max)
        self._depth = 0
        self._count = 0
        self._over = False
        self._in_string = False
        self._escaped = False
        self._marks_left = _MARKS_MIN

    def feed(self, piece: bytes) -> Iterator[Part]:
        self._marks_left += len(piece) // _BYTES_A_MARK
        begin = position = 0
        while (position := self._next_mark(piece, position)) < len(piece):
            byte = piece[position : position + 1]
            position += 1
            if byte in _OPENING:
                self._depth += 1
                begin = position if self._depth == 1 else begin
            elif self._depth == 1:  # the end of an element
                yield from self._ended(piece[begin : position - 1], last=byte != b",")
                begin = position
                self._over = byte != b","
            else:
                self._depth -= 1
            self._marks_left -= 1
            if self._marks_left < 0:
                raise NotSplittable("there are too many brackets")
        if self._depth and not self._over:
            self._kept.add(piece[begin:])

    def end(self) -> Iterator[Part]:
        if not self._over:
            raise NotSplittable("the array has no end")
        return iter(())

    def _next_mark(self, piece: bytes, position: int) -> int:
        """Where the next bracket stands, or comma between elements; or the end of the piece."""
        if self._in_string:
            position = self._behind_string(piece, position)
        if self._over or not self._depth:
            found = _BETWEEN_ELEMENTS.search(piece, position)
            if found and (self._over or found[0] != b"["):
                raise NotSplittable("something follows the array" if self._over else "it is not an array")
            return found.start() if found else len(piece)
        ahead = (_UP_TO_THE_END_OF_AN_ELEMENT if self._depth == 1 else _UP_TO_A_BRACKET).match(
            piece, position
        )
        end = ahead.end() if ahead else len(piece)
        if piece[end : end + 1] == b'"':  # its end is in another piece
            self._in_string = True
            return self._behind_string(piece, end + 1)
        return end

    def _behind_string(self, piece: bytes, position: int) -> int:
        """Behind the closing quote, or the end of the piece."""
        if position == len(piece):
            return position
        found = _REST_OF_STRING.match(piece, position + self._escaped)
        end = found.end() if found else len(piece)
        self._escaped = piece[end : end + 1] == b"\\"  # the last byte, and half of a pair
        if end == len(piece) or self._escaped:
            return len(piece)
        self._in_string = False
        return end + 1

    def _ended(self, rest: bytes, *, last: bool) -> Iterator[Part]:
        part = self._kept.take(rest)
        empty = last and not self._count and isinstance(part, bytes) and not part.strip()
        if not empty:
            self._count += 1
            yield part
