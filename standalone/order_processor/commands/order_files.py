"""Orders in a file: one as JSON, a JSON array of them, or one a line. They are handed on as they stand."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from order_processor.commands.exits import ExitCode, Failure

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STDIN = Path("-")

_raw = msgspec.json.Decoder(msgspec.Raw)
_array = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFile:
    """`count` is None when it cannot be known before the end."""

    orders: Iterator[bytes]
    count: int | None


def read_orders(path: Path) -> OrderFile:
    """Raises Failure when the file cannot be read, or is none of the three."""
    try:
        stream = sys.stdin.buffer if path == STDIN else path.open("rb")
        return _read(stream, "stdin" if path == STDIN else str(path))
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error


def _read(stream: BinaryIO, name: str) -> OrderFile:
    lines = (line for line in _without_mark(stream) if not line.isspace())
    first = next(lines, b"")
    if _is_complete(first):
        return OrderFile(orders=chain([first], lines), count=_lines_in(stream))
    return _read_document(b"".join([first, *lines]), name)


def _read_document(document: bytes, name: str) -> OrderFile:
    try:
        if not document.lstrip().startswith(b"["):
            return OrderFile(orders=iter([bytes(_raw.decode(document))]), count=1)
        orders = _array.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = f"{name} holds neither an order, nor a JSON array, nor one order a line: {error}"
        raise Failure(words, ExitCode.USAGE) from error
    return OrderFile(orders=map(bytes, orders), count=len(orders))


def _is_complete(line: bytes) -> bool:
    """Whether an order stands on this line, so that there is one a line."""
    try:
        return line.lstrip().startswith(b"{") and bool(bytes(_raw.decode(line)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _lines_in(stream: BinaryIO) -> int | None:
    if not stream.seekable():
        return None
    here = stream.tell()
    stream.seek(0)
    count = sum(not line.isspace() for line in stream)
    stream.seek(here)
    return count


def _without_mark(stream: BinaryIO) -> Iterator[bytes]:
    yield stream.readline().removeprefix(_BYTE_ORDER_MARK)
    while line := stream.readline():
        yield line
