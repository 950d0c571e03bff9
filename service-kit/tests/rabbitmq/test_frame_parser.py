"""The parser of what RabbitMQ sends: right however the bytes are cut, and never more than a clean error."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp import base, body, commands, frame, header, heartbeat
from pamqp.common import FieldTable

from service_kit.message import Delivery
from service_kit.rabbitmq.faults import ProtocolError
from service_kit.rabbitmq.frame_parser import Confirmed, Event, FrameParser, Method, Returned
from service_kit.rabbitmq.properties import UNDECODABLE, decode_properties

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Sent:
    """Some bytes of the broker, and the event that they are."""

    data: bytes
    event: Event | None


def content(properties: commands.Basic.Properties, parts: list[bytes]) -> bytes:
    size = sum(len(part) for part in parts)
    frames = [frame.marshal(header.ContentHeader(0, size, properties), 1)]
    return b"".join(frames + [frame.marshal(body.ContentBody(part), 1) for part in parts])


short_text = st.text(max_size=30)
field_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=20)
    | st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(
        lambda at: at.replace(microsecond=0, tzinfo=UTC)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def deliveries(draw: st.DrawFn) -> Sent:
    tag, redelivered = draw(st.integers(1, 2**40)), draw(st.booleans())
    key, message_id = draw(short_text), draw(st.none() | short_text.filter(bool))
    headers: FieldTable = draw(st.dictionaries(short_text, field_values, max_size=3))
    parts = draw(st.lists(st.binary(min_size=1, max_size=300), max_size=4))
    properties = commands.Basic.Properties(
        content_type="application/json",
        content_encoding=draw(st.none() | st.just("gzip")),
        headers=headers or None,
        delivery_mode=draw(st.sampled_from([None, 1, 2])),
        priority=draw(st.none() | st.integers(0, 9)),
        correlation_id=draw(st.none() | short_text),
        expiration=draw(st.none() | st.just("60000")),
        message_id=message_id,
        timestamp=draw(st.none() | st.just(datetime(2026, 1, 1, tzinfo=UTC))),
        app_id=draw(st.none() | short_text),
    )
    method = commands.Basic.Deliver("consumer", tag, redelivered, "orders", key)
    delivery = Delivery(
        tag=tag,
        routing_key=key,
        body=b"".join(parts),
        message_id=message_id,
        headers=headers,
        redelivered=redelivered,
    )
    return Sent(frame.marshal(method, 1) + content(properties, parts), delivery)


@st.composite
def returns(draw: st.DrawFn) -> Sent:
    key, message_id = draw(short_text), draw(short_text.filter(bool))
    parts = draw(st.lists(st.binary(min_size=1, max_size=300), max_size=3))
    method = commands.Basic.Return(312, "NO_ROUTE", "orders", key)
    data = frame.marshal(method, 1) + content(commands.Basic.Properties(message_id=message_id), parts)
    return Sent(data, Returned(key, message_id))


@st.composite
def confirms(draw: st.DrawFn) -> Sent:
    tag, multiple, accepted = draw(st.integers(1, 2**60)), draw(st.booleans()), draw(st.booleans())
    method = commands.Basic.Ack(tag, multiple) if accepted else commands.Basic.Nack(tag, multiple, False)
    return Sent(frame.marshal(method, 1), Confirmed(tag, multiple, accepted))


heartbeats = st.just(Sent(frame.marshal(heartbeat.Heartbeat(), 0), None))
conversations = st.lists(deliveries() | returns() | confirms() | heartbeats, max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(bounds)]


@unhurried
@given(conversation=conversations, cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_bytes_mean_the_same_wherever_they_are_cut(conversation: list[Sent], cuts: list[int]) -> None:
    data = b"".join(sent.data for sent in conversation)
    expected = [sent.event for sent in conversation if sent.event is not None]
    parser = FrameParser()
    assert [event for piece in pieces(data, cuts) for event in parser.feed(piece)] == expected


@unhurried
@given(conversation=conversations)
def test_bytes_may_come_one_by_one(conversation: list[Sent]) -> None:
    data = b"".join(sent.data for sent in conversation)
    parser = FrameParser()
    events = [event for at in range(len(data)) for event in parser.feed(data[at : at + 1])]
    assert events == [sent.event for sent in conversation if sent.event is not None]


def outcome(parser: FrameParser, data: bytes) -> list[Event] | None:
    """The events, or None for the one error that is allowed."""
    try:
        return parser.feed(data)
    except ProtocolError:
        return None


@unhurried
@given(garbage=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_garbage_is_a_protocol_error_and_never_a_delivery(garbage: bytes, cuts: list[int]) -> None:
    parser = FrameParser()
    for piece in pieces(garbage, cuts):
        events = outcome(parser, piece)
        if events is None:
            return
        assert not any(isinstance(event, Delivery) for event in events)


@unhurried
@given(conversation=conversations, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_byte_is_survived(conversation: list[Sent], at: int, byte: int) -> None:
    data = bytearray(b"".join(sent.data for sent in conversation))
    damaged = at % max(len(data), 1)
    data[damaged : damaged + 1] = bytes((byte,))[: len(data)]
    ends = accumulate(len(sent.data) for sent in conversation)
    before = max((end for end in ends if end <= damaged), default=0)
    parser = FrameParser()
    intact = parser.feed(bytes(data[:before]))
    outcome(parser, bytes(data[before:]))
    whole = [sent.event for sent in conversation if sent.event is not None]
    assert intact == whole[: len(intact)]


@unhurried
@given(properties=st.binary(max_size=200))
def test_properties_of_any_bytes_never_touch_the_body(properties: bytes) -> None:
    payload = struct.pack(">HHQ", 60, 0, 3) + properties
    data = (
        frame.marshal(commands.Basic.Deliver("consumer", 7, False, "orders", "key"), 1)
        + struct.pack(">BHI", 2, 1, len(payload))
        + payload
        + b"\xce"
        + frame.marshal(body.ContentBody(b"abc"), 1)
    )
    events = outcome(FrameParser(), data)
    if events is not None:
        (delivery,) = events
        assert isinstance(delivery, Delivery)
        assert (delivery.tag, delivery.body) == (7, b"abc")


def method_bytes(method: base.Frame, channel: int = 1) -> bytes:
    return frame.marshal(method, channel)


DELIVER = method_bytes(commands.Basic.Deliver("consumer", 1, False, "orders", "key"))
HEADER = frame.marshal(header.ContentHeader(0, 3), 1)


@pytest.mark.parametrize(
    "data",
    [
        DELIVER + DELIVER,
        DELIVER + HEADER + HEADER,
        DELIVER + frame.marshal(body.ContentBody(b"abc"), 1),
        DELIVER + HEADER + frame.marshal(body.ContentBody(b"abcd"), 1),
        DELIVER + HEADER + method_bytes(commands.Basic.Ack(1)),
        DELIVER + frame.marshal(header.ContentHeader(0, 3), 2),
        HEADER,
        frame.marshal(body.ContentBody(b"abc"), 1),
        method_bytes(commands.Basic.Deliver("consumer", 1, False, "orders", "key"), 2),
        b"\x01\x00\x01\x00\x00\x00\x04\x00\xff\x00\xff\xce",
        b"\x01\x00\x01\x00\x00\x00\x01\x00\xce",
        b"\x05\x00\x01\x00\x00\x00\x01\x00\xce",
        DELIVER[:-1] + b"\x00",
        struct.pack(">BHI", 3, 1, 131_072 - 7) + b"x",
        b"AMQP\x00\x00\x09\x01",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
    ],
)
def test_what_breaks_the_protocol_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameParser().feed(data)


def test_a_peer_of_another_protocol_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"AMQP 0-9-1"):
        FrameParser().feed(b"AMQP\x00\x01\x00\x00")
    with pytest.raises(ProtocolError, match="does not speak AMQP"):
        FrameParser().feed(b"HTTP/1.1 400 Bad Request\r\n")


def test_other_channels_may_speak_between_the_frames_of_a_message() -> None:
    blocked = method_bytes(commands.Connection.Blocked("low on memory"), 0)
    beat = frame.marshal(heartbeat.Heartbeat(), 0)
    data = DELIVER + blocked + HEADER + beat + frame.marshal(body.ContentBody(b"abc"), 1)
    method, delivery = FrameParser().feed(data)
    assert isinstance(method, Method)
    assert isinstance(delivery, Delivery)
    assert delivery.body == b"abc"


def test_tags_are_counted_on_from_the_base() -> None:
    (delivery,) = FrameParser(tag_base=1_000).feed(DELIVER + frame.marshal(header.ContentHeader(0, 0), 1))
    assert isinstance(delivery, Delivery)
    assert delivery.tag == 1_001


def table(*fields: tuple[bytes, bytes]) -> bytes:
    """Properties that hold nothing but headers."""
    encoded = b"".join(bytes((len(name),)) + name + value for name, value in fields)
    return b"\x20\x00" + struct.pack(">I", len(encoded)) + encoded


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (b"t\x01", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I\xff\xff\xff\xfe", -2),
        (b"i\xff\xff\xff\xfe", 2**32 - 2),
        (b"l" + b"\xff" * 8, -1),
        (b"L\x00" + b"\xff" * 7, 2**56 - 1),
        (b"f" + struct.pack(">f", 0.5), 0.5),
        (b"d" + struct.pack(">d", 0.1), 0.1),
        (b"D\x02" + struct.pack(">i", 12345), Decimal("123.45")),
        (b"D\x00" + struct.pack(">i", -5), Decimal(-5)),
        (b"D\xff" + struct.pack(">i", 1), Decimal("1e-255")),
        (b"S\x00\x00\x00\x02hi", "hi"),
        (b"S\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
        (b"x\x00\x00\x00\x02\x00\x01", b"\x00\x01"),
        (b"T" + struct.pack(">Q", 0), datetime(1970, 1, 1, tzinfo=UTC)),
        (b"T" + b"\xff" * 8, 2**64 - 1),
        (b"V", None),
        (b"A\x00\x00\x00\x04t\x00b\x05", [False, 5]),
        (b"F\x00\x00\x00\x04\x01at\x01", {"a": True}),
        (b"F\x00\x00\x00\x00", {}),
    ],
)
def test_a_header_of_every_type_is_read(encoded: bytes, value: object) -> None:
    _, headers = decode_properties(table((b"first", encoded), (b"last", b"t\x01")), 0)
    assert headers == {"first": value, "last": True}


@pytest.mark.parametrize("encoded", [b"?", b"S\x00\x00\x00\xffhi", b"A\x00\x00\x00\xff", b"I\x00", b"t"])
def test_headers_that_make_no_sense_are_kept_as_bytes(encoded: bytes) -> None:
    properties = table((b"odd", encoded))
    assert decode_properties(properties, 0) == (None, {UNDECODABLE: properties[6:]})


def test_headers_nested_without_end_are_kept_as_bytes() -> None:
    nested = b""
    for _ in range(5_000):
        nested = b"\x01aF" + struct.pack(">I", len(nested)) + nested
    properties = b"\x20\x00" + struct.pack(">I", len(nested)) + nested
    assert decode_properties(properties, 0) == (None, {UNDECODABLE: nested})


def test_names_that_are_no_unicode_stay_readable() -> None:
    message_id, headers = decode_properties(b"\x20\x80" + table((b"\xff", b"t\x01"))[2:] + b"\x02\xfea", 0)
    assert message_id == "\\xfea"
    assert headers == {"\\xff": True}
