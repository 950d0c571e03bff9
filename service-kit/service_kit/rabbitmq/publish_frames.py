"""The bytes of a batch of `Basic.Publish`: method, content header and body frames of each message.

Coded by hand because a library's frame objects cost thirty times as much (docs: what a message costs).
Every rare method goes through `method_frame` and pamqp.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from pamqp import base, frame

from service_kit.errors import MessageRejected
from service_kit.message import Message

CHANNEL = 1
"""The one channel of each connection."""

FRAME_MAX = 131_072
_FRAME_OVERHEAD = 8

_pack_frame_start = struct.Struct(">BHI").pack
_pack_content_start = struct.Struct(">BHIHHQH").pack
_pack_ack = struct.Struct(">BHIHHQBB").pack
_pack_size = struct.Struct(">I").pack

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_BASIC = 60
_CONTENT_TYPE = b"\x10application/json"
_PERSISTENT = b"\x02"
_FLAGS = 0x8000 | 0x1000 | 0x0080
_FLAGS_WITH_HEADERS = _FLAGS | 0x2000

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def publish_frames(exchange: str, messages: Sequence[Message], frame_max: int) -> bytes:
    """All frames of `messages`, `mandatory` and persistent, none longer than `frame_max` bytes.

    Raises MessageRejected, before anything is sent, for what AMQP cannot carry: a message id, routing key or
    header name above 255 bytes, headers above one frame, text that is no Unicode or no text.
    """
    pieces: list[bytes] = []
    for message in messages:
        body = message.body
        try:
            pieces.append(_publish_method(exchange, message.routing_key))
            pieces.append(_content_header(message, len(body), frame_max))
        # What was stored long ago need not keep to its type: one such row must not look like an outage.
        except (ValueError, TypeError, AttributeError) as error:
            shown = str(message.message_id)[:64]
            raise MessageRejected(f"message {shown!r} cannot be sent: {error}") from error
        pieces += _body_frames(body, frame_max)
    return b"".join(pieces)


def ack_frame(delivery_tag: int) -> bytes:
    """`Basic.Ack` of everything delivered up to and including `delivery_tag`."""
    return _pack_ack(_METHOD, CHANNEL, 13, _BASIC, 80, delivery_tag, 1, _END[0])


def method_frame(method: base.Frame, channel: int) -> bytes:
    """Any other method, by pamqp's codec."""
    return frame.marshal(method, channel)


@lru_cache(maxsize=256)
def _publish_method(exchange: str, routing_key: str) -> bytes:
    mandatory = b"\x01"
    names = _short_text(exchange, "the exchange") + _short_text(routing_key, "the routing key")
    payload = struct.pack(">HHH", _BASIC, 40, 0) + names + mandatory
    return _pack_frame_start(_METHOD, CHANNEL, len(payload)) + payload + _END


def _content_header(message: Message, body_size: int, frame_max: int) -> bytes:
    headers = _table(message.headers) if message.headers else b""
    flags = _FLAGS_WITH_HEADERS if headers else _FLAGS
    properties = _CONTENT_TYPE + headers + _PERSISTENT + _short_text(message.message_id, "the message id")
    size = 14 + len(properties)
    if size > frame_max - _FRAME_OVERHEAD:
        raise ValueError(f"its headers do not fit into one frame of {frame_max} bytes")
    return _pack_content_start(_HEADER, CHANNEL, size, _BASIC, 0, body_size, flags) + properties + _END


def _body_frames(body: bytes, frame_max: int) -> Iterator[bytes]:
    step = frame_max - _FRAME_OVERHEAD
    for start in range(0, len(body), step):
        part = body if len(body) <= step else body[start : start + step]
        yield _pack_frame_start(_BODY, CHANNEL, len(part))
        yield part
        yield _END


def _table(headers: Mapping[str, str]) -> bytes:
    fields = bytearray()
    for name, value in headers.items():
        text = value.encode()
        fields += _short_text(name, "a header's name") + b"S" + _pack_size(len(text)) + text
    return _pack_size(len(fields)) + bytes(fields)


def _short_text(text: str, what: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"{what} is longer than 255 bytes")
    return bytes((len(encoded),)) + encoded
