"""The message id and headers out of a content header that any AMQP client may have written.

Nothing in there is a reason to lose a message or a connection: what cannot be understood is kept as bytes.
"""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

UNDECODABLE = "x-undecodable-headers"
"""The one header of a message whose table made no sense; its value is the table's bytes."""

_DEPTH_MAX = 64
_SHORT_STRING, _TABLE, _OCTET, _TIMESTAMP = range(4)
_PROPERTIES = (
    (0x8000, _SHORT_STRING),  # content type
    (0x4000, _SHORT_STRING),  # content encoding
    (0x2000, _TABLE),  # headers
    (0x1000, _OCTET),  # delivery mode
    (0x0800, _OCTET),  # priority
    (0x0400, _SHORT_STRING),  # correlation id
    (0x0200, _SHORT_STRING),  # reply to
    (0x0100, _SHORT_STRING),  # expiration
    (0x0080, _SHORT_STRING),  # message id
)
_MESSAGE_ID = 0x0080

_size_at = struct.Struct(">I").unpack_from
_flags_at = struct.Struct(">H").unpack_from


def decode_properties(payload: bytes, at: int) -> tuple[str | None, dict[str, object]]:
    """The message id (or None) and the headers of the content header whose flags begin at `at`.

    Values stay Python objects of their AMQP type: text, bytes (also text that is no UTF-8), whole numbers,
    floats, Decimal, aware datetime, lists, dicts, None. Raises ValueError or struct.error when a property
    reaches beyond the payload.
    """
    (flags,) = _flags_at(payload, at)
    at += 2
    more = flags & 1
    while more:
        more = _flags_at(payload, at)[0] & 1
        at += 2
    headers: dict[str, object] = {}
    for flag, kind in _PROPERTIES:
        if not flags & flag:
            continue
        if kind == _SHORT_STRING:
            end = at + 1 + payload[at]
            if flag == _MESSAGE_ID:
                return _text_between(payload, at + 1, end), headers
        elif kind == _TABLE:
            end = at + 4 + _size_at(payload, at)[0]
            headers = _headers(payload, at, end)
        else:
            end = at + 1
        at = end
        if at > len(payload):
            raise ValueError("a property reaches beyond its frame")
    return None, headers


def readable(raw: bytes) -> str:
    """Text for people and logs, whatever the bytes are."""
    return raw.decode(errors="backslashreplace")


def _text_between(payload: bytes, start: int, end: int) -> str:
    if end > len(payload):
        raise ValueError("a property reaches beyond its frame")
    return readable(payload[start:end])


def _headers(payload: bytes, start: int, end: int) -> dict[str, object]:
    if end > len(payload):
        raise ValueError("the header table reaches beyond its frame")
    try:
        return _table(payload, start, end, 0)[0]
    except (ValueError, LookupError, struct.error):
        return {UNDECODABLE: payload[start + 4 : end]}


def _table(payload: bytes, at: int, limit: int, depth: int) -> tuple[dict[str, object], int]:
    at, end = _nested(payload, at, limit, depth)
    fields: dict[str, object] = {}
    while at < end:
        name_end = at + 1 + payload[at]
        name = readable(payload[at + 1 : name_end])
        fields[name], at = _value(payload, name_end, end, depth)
    return fields, at


def _array(payload: bytes, at: int, limit: int, depth: int) -> tuple[list[object], int]:
    at, end = _nested(payload, at, limit, depth)
    items: list[object] = []
    while at < end:
        item, at = _value(payload, at, end, depth)
        items.append(item)
    return items, at


def _nested(payload: bytes, at: int, limit: int, depth: int) -> tuple[int, int]:
    end = at + 4 + _size_at(payload, at)[0]
    if end > limit or depth > _DEPTH_MAX:
        raise ValueError("a table is longer than what holds it, or nested too deeply")
    return at + 4, end


def _value(payload: bytes, at: int, limit: int, depth: int) -> tuple[object, int]:
    kind = payload[at : at + 1]
    at += 1
    value: object
    if kind == b"S" or kind == b"x":
        end = at + 4 + _size_at(payload, at)[0]
        value = _text_or_bytes(payload[at + 4 : end]) if kind == b"S" else payload[at + 4 : end]
    elif kind == b"F":
        value, end = _table(payload, at, limit, depth + 1)
    elif kind == b"A":
        value, end = _array(payload, at, limit, depth + 1)
    elif kind == b"V":
        value, end = None, at
    else:
        layout, convert = _SCALARS[kind]
        value, end = convert(*layout.unpack_from(payload, at)), at + layout.size
    if end > limit:
        raise ValueError("a value reaches beyond its table")
    return value, end


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _moment(seconds: int) -> datetime | int:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return seconds


def _decimal(scale: int, unscaled: int) -> Decimal:
    return Decimal(unscaled).scaleb(-scale)


def _same(value: object) -> object:
    return value


_SCALARS: dict[bytes, tuple[struct.Struct, Callable[..., object]]] = {
    b"t": (struct.Struct(">B"), bool),
    b"b": (struct.Struct(">b"), _same),
    b"B": (struct.Struct(">B"), _same),
    b"s": (struct.Struct(">h"), _same),
    b"u": (struct.Struct(">H"), _same),
    b"I": (struct.Struct(">i"), _same),
    b"i": (struct.Struct(">I"), _same),
    b"l": (struct.Struct(">q"), _same),
    b"L": (struct.Struct(">q"), _same),
    b"f": (struct.Struct(">f"), _same),
    b"d": (struct.Struct(">d"), _same),
    b"D": (struct.Struct(">Bi"), _decimal),
    b"T": (struct.Struct(">Q"), _moment),
}
