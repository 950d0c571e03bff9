"""The bytes we send, read by an independent codec."""

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from service_kit.errors import MessageRejected
from service_kit.message import Message
from service_kit.rabbitmq.publish_frames import FRAME_MAX, HEARTBEAT, ack_frame, publish_frames

FRAME_MAX_LEAST = 4096
short_text = st.text(max_size=60)


def frames(data: bytes) -> list[object]:
    read: list[object] = []
    while data:
        size, channel, value = frame.unmarshal(data)
        assert channel == (0 if data == HEARTBEAT else 1)
        read.append(value)
        data = data[size:]
    return read


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    message_id=short_text.filter(bool),
    routing_key=short_text,
    headers=st.dictionaries(short_text, st.text(max_size=100), max_size=5),
    body_bytes=st.binary(max_size=3 * FRAME_MAX_LEAST),
)
def test_another_codec_reads_what_was_published(
    message_id: str, routing_key: str, headers: Mapping[str, str], body_bytes: bytes
) -> None:
    message = Message(routing_key=routing_key, body=body_bytes, message_id=message_id, headers=headers)
    method, content, *bodies = frames(publish_frames("orders", [message], FRAME_MAX_LEAST))
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == ("orders", routing_key, True)
    assert isinstance(content, header.ContentHeader)
    assert content.body_size == len(body_bytes)
    assert content.properties.content_type == "application/json"
    assert content.properties.delivery_mode == 2
    assert content.properties.message_id == message_id
    assert (content.properties.headers or {}) == headers
    parts = [each.value for each in bodies if isinstance(each, body.ContentBody)]
    assert len(parts) == len(bodies)
    assert all(0 < len(part or b"") <= FRAME_MAX_LEAST - 8 for part in parts)
    assert b"".join(part or b"" for part in parts) == body_bytes


def test_a_batch_is_the_frames_of_its_messages_in_order() -> None:
    messages = [Message(routing_key=f"key.{n}", body=b"x" * n, message_id=str(n)) for n in range(3)]
    together = publish_frames("orders", messages, FRAME_MAX)
    assert together == b"".join(publish_frames("orders", [message], FRAME_MAX) for message in messages)


@pytest.mark.parametrize("size", [FRAME_MAX_LEAST - 9, FRAME_MAX_LEAST - 8, FRAME_MAX_LEAST - 7])
def test_a_body_is_cut_exactly_at_the_agreed_frame(size: int) -> None:
    message = Message(routing_key="key", body=b"x" * size, message_id="1")
    _, _, *bodies = frames(publish_frames("orders", [message], FRAME_MAX_LEAST))
    assert len(bodies) == (1 if size <= FRAME_MAX_LEAST - 8 else 2)


def test_headers_that_fill_a_frame_exactly_are_the_most() -> None:
    # type, channel, size and end: 8; class to flags: 14; content type 17; mode 1; id 2; table 4; entry 2 + 5
    room = FRAME_MAX_LEAST - 8 - 14 - 17 - 1 - 2 - 4 - 7
    fits = Message(routing_key="key", body=b"", message_id="1", headers={"h": "x" * room})
    assert len(frames(publish_frames("orders", [fits], FRAME_MAX_LEAST))) == 2
    above = Message(routing_key="key", body=b"", message_id="1", headers={"h": "x" * (room + 1)})
    with pytest.raises(MessageRejected, match="headers"):
        publish_frames("orders", [above], FRAME_MAX_LEAST)


@pytest.mark.parametrize(
    "odd",
    [
        Message(routing_key="key", body=b"", message_id="\ud800"),
        Message(routing_key="\ud800", body=b"", message_id="1"),
        Message(routing_key="key", body=b"", message_id="1", headers={"h": "\ud800"}),
        Message(routing_key="key", body=b"", message_id="1" * 256),
        Message(routing_key="key", body=b"", message_id=None),  # type: ignore[arg-type]
        Message(routing_key="key", body=b"", message_id="1", headers={"h": None}),  # type: ignore[dict-item]
    ],
)
def test_what_amqp_cannot_carry_is_rejected(odd: Message) -> None:
    with pytest.raises(MessageRejected, match="cannot be sent"):
        publish_frames("orders", [Message(routing_key="key", body=b"", message_id="1"), odd], FRAME_MAX)


def test_an_acknowledgement_covers_all_before_it() -> None:
    (ack,) = frames(ack_frame(2**40))
    assert isinstance(ack, commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (2**40, True)
