"""From the bytes of a message to the bytes of its events."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from service_kit.errors import MalformedEvent
from service_kit.message import MESSAGE_BYTES_MAX, Delivery

_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_WHITE_SPACE = b" \t\r\n"

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no event, and why."""

    body: bytes
    reason: str


def split_events(delivery: Delivery) -> Sequence[bytes | Malformed]:
    """The events of a message: one JSON object, or each element of a JSON array, as bytes.

    Whether an element is a JSON object at all is for the decoder to say.
    """
    body = delivery.body
    if not body:
        return [Malformed(body, "the message is empty")]
    if len(body) > MESSAGE_BYTES_MAX:
        return [Malformed(body, f"the message has {len(body)} bytes, more than {MESSAGE_BYTES_MAX}")]
    if body[:1] != b"[" and body.lstrip(_WHITE_SPACE)[:1] != b"[":
        return [body]
    try:
        events = [bytes(element) for element in _ARRAY.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [Malformed(body, f"not a JSON array of events: {error}")]
    return events or [Malformed(body, "an array without any event")]


def decoded_events(
    delivery: Delivery, decode: Callable[[str, bytes], E]
) -> Iterator[tuple[bytes, E | Malformed]]:
    """The bytes of each event of a message, with the event, or with why they are none."""
    for body in split_events(delivery):
        if isinstance(body, Malformed):
            yield body.body, body
        else:
            yield body, _decoded(delivery.routing_key, body, decode)


def _decoded(event_type: str, body: bytes, decode: Callable[[str, bytes], E]) -> E | Malformed:
    try:
        return decode(event_type, body)
    except MalformedEvent as error:
        return Malformed(body, str(error))
    except Exception as error:  # bytes in, event out: whatever decoding raises would be raised again
        return Malformed(body, f"{type(error).__name__}: {error}")
