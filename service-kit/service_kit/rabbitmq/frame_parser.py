"""Bytes from RabbitMQ, cut anywhere, into what they mean. No input or output of its own.

The hot frames (deliveries, confirms, returns) are read by hand, every rare method by pamqp.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from pamqp import base, commands

from service_kit.message import Delivery
from service_kit.rabbitmq.faults import ProtocolError
from service_kit.rabbitmq.properties import decode_properties, readable
from service_kit.rabbitmq.publish_frames import CHANNEL, FRAME_MAX

_METHOD, _HEADER, _BODY, _HEARTBEAT, _END = 1, 2, 3, 8, 0xCE
_PAYLOAD_MAX = FRAME_MAX - 8
_KINDS = (_METHOD, _HEADER, _BODY, _HEARTBEAT)
_DELIVER, _RETURN, _ACK, _NACK = 0x3C003C, 0x3C0032, 0x3C0050, 0x3C0078

_frame_start_at = struct.Struct(">BHI").unpack_from
_index_at = struct.Struct(">I").unpack_from
_tag_and_bits_at = struct.Struct(">QB").unpack_from
_body_size_at = struct.Struct(">Q").unpack_from


class Confirmed(NamedTuple):
    """`Basic.Ack` (`accepted`) or `Basic.Nack` of `tag`, or of every message up to it when `multiple`."""

    tag: int
    multiple: bool
    accepted: bool


class Returned(NamedTuple):
    """`Basic.Return`: no queue took the message. It comes before the message's own `Confirmed`."""

    routing_key: str
    message_id: str | None


class Method(NamedTuple):
    """Any other method, as pamqp reads it."""

    channel: int
    frame: base.Frame


Event = Delivery | Confirmed | Returned | Method


@dataclass(slots=True)
class _Content:
    """A delivery or a return whose header or body is still on its way."""

    tag: int | None
    redelivered: bool
    routing_key: str
    message_id: str | None = None
    headers: dict[str, object] | None = None
    missing_bytes: int = 0
    parts: list[bytes] | None = None


class FrameParser:
    """Reads one connection. Delivery tags are counted on from `tag_base`, so that none ever repeats."""

    def __init__(self, tag_base: int = 0) -> None:
        self._tag_base = tag_base
        self._chunks: list[bytes] = []
        self._missing_bytes = 0
        self._content: _Content | None = None

    def feed(self, data: bytes) -> list[Event]:
        """What became complete with `data`, in order. Raises ProtocolError; the parser is then spent."""
        if self._chunks:
            self._chunks.append(data)
            self._missing_bytes -= len(data)
            if self._missing_bytes > 0:
                return []
            data = b"".join(self._chunks)
            self._chunks = []
        try:
            return self._frames(data)
        except ProtocolError:
            raise
        # Garbage can fail in as many ways as there are fields; each means the same.
        except Exception as error:
            raise ProtocolError(f"RabbitMQ sent a frame that cannot be read: {error}") from error

    def _frames(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = _frame_start_at(data, at)
            if size > _PAYLOAD_MAX:
                raise ProtocolError(_strange_start(data[at:]))
            stop = at + 7 + size
            if stop >= end:
                break
            if data[stop] != _END:
                raise ProtocolError("RabbitMQ sent a frame without its end mark")
            event = self._frame(kind, channel, data[at + 7 : stop])
            if event is not None:
                events.append(event)
            at = stop + 1
        self._keep(data, at, end)
        return events

    def _keep(self, data: bytes, at: int, end: int) -> None:
        if at == end:
            return
        rest = data[at:]
        if rest[0] not in _KINDS:
            raise ProtocolError(_strange_start(rest))
        size = _frame_start_at(rest)[2] if len(rest) >= 8 else 0
        self._chunks = [rest]
        self._missing_bytes = 8 + size - len(rest)

    def _frame(self, kind: int, channel: int, payload: bytes) -> Event | None:
        if kind == _METHOD:
            return self._method(channel, payload)
        if kind == _HEARTBEAT:
            return None
        content = self._content
        if content is None or channel != CHANNEL:
            raise ProtocolError("RabbitMQ sent a content frame that nothing announced")
        if kind == _HEADER:
            return self._header(content, payload)
        if kind == _BODY:
            return self._body(content, payload)
        raise ProtocolError(f"RabbitMQ sent a frame of unknown type {kind}")

    def _method(self, channel: int, payload: bytes) -> Event | None:
        (index,) = _index_at(payload)
        if channel == CHANNEL and self._content is not None:
            raise ProtocolError("RabbitMQ sent a method in the midst of a message")
        if index == _DELIVER:
            self._content = self._delivered(channel, payload)
            return None
        if index in (_ACK, _NACK):
            tag, bits = _tag_and_bits_at(payload, 4)
            return Confirmed(tag, bool(bits & 1), index == _ACK)
        if index == _RETURN:
            self._content = self._returned(channel, payload)
            return None
        method = commands.INDEX_MAPPING[index]()
        method.unmarshal(payload[4:])
        return Method(channel, method)

    def _delivered(self, channel: int, payload: bytes) -> _Content:
        at = 5 + payload[4]
        tag, redelivered = _tag_and_bits_at(payload, at)
        return _Content(self._tag_base + tag, bool(redelivered & 1), _routing_key(channel, payload, at + 9))

    def _returned(self, channel: int, payload: bytes) -> _Content:
        at = 7 + payload[6]
        return _Content(None, False, _routing_key(channel, payload, at))

    def _header(self, content: _Content, payload: bytes) -> Event | None:
        if content.parts is not None:
            raise ProtocolError("RabbitMQ sent a second header for one message")
        (content.missing_bytes,) = _body_size_at(payload, 4)
        content.message_id, content.headers = decode_properties(payload, 12)
        content.parts = []
        return None if content.missing_bytes else self._complete(content, b"")

    def _body(self, content: _Content, payload: bytes) -> Event | None:
        if content.parts is None or len(payload) > content.missing_bytes:
            raise ProtocolError("RabbitMQ sent more of a message than announced")
        content.missing_bytes -= len(payload)
        if not content.missing_bytes and not content.parts:
            return self._complete(content, payload)
        content.parts.append(payload)
        return None if content.missing_bytes else self._complete(content, b"".join(content.parts))

    def _complete(self, content: _Content, body: bytes) -> Event:
        self._content = None
        if content.tag is None:
            return Returned(content.routing_key, content.message_id)
        return Delivery(
            tag=content.tag,
            routing_key=content.routing_key,
            body=body,
            message_id=content.message_id,
            headers=content.headers or {},
            redelivered=content.redelivered,
        )


def _routing_key(channel: int, payload: bytes, exchange_at: int) -> str:
    at = exchange_at + 1 + payload[exchange_at]
    end = at + 1 + payload[at]
    if channel != CHANNEL or end != len(payload):
        raise ProtocolError("RabbitMQ sent a delivery or return that cannot be read")
    return readable(payload[at + 1 : end])


def _strange_start(rest: bytes) -> str:
    if rest.startswith(b"AMQP"):
        return "the broker does not speak AMQP 0-9-1"
    if rest[0] in _KINDS:
        return "RabbitMQ sent a frame longer than agreed"
    return "what answers there does not speak AMQP (a TLS port, or a web server?)"
