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
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _PRIORITY = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800
_BETWEEN_PRIORITY_AND_ID = (0x0400, 0x0200, 0x0100)
_MESSAGE_ID = 0x0080
_TEXT, _BYTES, _TABLE, _ARRAY, _NOTHING = b"SxFAV"

_size_at = struct.Struct(">I").unpack_from
_flags_at = struct.Struct(">H").unpack_from


def decode_properties(payload: bytes, at: int) -> tuple[str | None, dict[str, object]]:
    """The message id (or None) and the headers of the content header whose flags begin at `at`.

    Values stay Python objects of their AMQP type: text, bytes (also text that is no UTF-8), whole numbers,
    floats, Decimal, aware datetime, lists, dicts, None. Raises ValueError, IndexError or struct.error when a
    property reaches beyond the payload.
    """
    (flags,) = _flags_at(payload, at)
    at = _after_flags(payload, at)
    if flags & _CONTENT_TYPE:
        at += 1 + payload[at]
    if flags & _CONTENT_ENCODING:
        at += 1 + payload[at]
    headers: dict[str, object] = {}
    if flags & _HEADERS:
        end = at + 4 + _size_at(payload, at)[0]
        headers, at = _headers(payload, at, end), end
    at += bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in _BETWEEN_PRIORITY_AND_ID:
        if flags & flag:
            at += 1 + payload[at]
    if not flags & _MESSAGE_ID:
        return None, headers
    end = at + 1 + payload[at]
    if end > len(payload):
        raise ValueError("a property reaches beyond its frame")
    return readable(payload[at + 1 : end]), headers


def readable(raw: bytes) -> str:
    """Text for people and logs, whatever the bytes are."""
    return raw.decode(errors="backslashreplace")


def _after_flags(payload: bytes, at: int) -> int:
    while _flags_at(payload, at)[0] & 1:
        at += 2
    return at + 2


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
    kind = payload[at]
    at += 1
    value: object
    if kind == _TEXT or kind == _BYTES:  # noqa: SIM109 (twice as fast)
        end = at + 4 + _size_at(payload, at)[0]
        raw = payload[at + 4 : end]
        value = _text_or_bytes(raw) if kind == _TEXT else raw
    elif kind == _TABLE:
        value, end = _table(payload, at, limit, depth + 1)
    elif kind == _ARRAY:
        value, end = _array(payload, at, limit, depth + 1)
    elif kind == _NOTHING:
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


_SCALARS: dict[int, tuple[struct.Struct, Callable[..., object]]] = {
    ord("t"): (struct.Struct(">B"), bool),
    ord("b"): (struct.Struct(">b"), _same),
    ord("B"): (struct.Struct(">B"), _same),
    ord("s"): (struct.Struct(">h"), _same),
    ord("u"): (struct.Struct(">H"), _same),
    ord("I"): (struct.Struct(">i"), _same),
    ord("i"): (struct.Struct(">I"), _same),
    ord("l"): (struct.Struct(">q"), _same),
    ord("L"): (struct.Struct(">q"), _same),
    ord("f"): (struct.Struct(">f"), _same),
    ord("d"): (struct.Struct(">d"), _same),
    ord("D"): (struct.Struct(">Bi"), _decimal),
    ord("T"): (struct.Struct(">Q"), _moment),
}
