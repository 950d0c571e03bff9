"""How events are read: tolerantly in form, strictly in what is stored."""

from typing import Annotated, TypeVar

import msgspec

from service_kit.errors import MalformedEvent

T = TypeVar("T")

EventText = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
"""An id: PostgreSQL stores no NUL, and indexes no very long text."""

StorableText = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]

EventVersion = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


def event_decoder(type: type[T]) -> "msgspec.json.Decoder[T]":
    """A decoder that ignores unknown fields, and takes `3.0` or `"3"` for an integer."""
    return msgspec.json.Decoder(type, strict=False)


def decode_event(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The event in `body`. Raises MalformedEvent with the reason, whatever the bytes are."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        raise MalformedEvent(f"{error}") from error
