"""What happens to events that could not be handled: tried again later, or set aside as dead letters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from service_kit.message import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """One event, and why it failed at attempt number `attempt`.

    `event_key` names the event (or, of a malformed one, its bytes): an event fails under one key however
    often it is delivered. `body` is the event alone, also when its message carried several. `subject` is what
    it is about, as far as that can be told.
    """

    event_key: str
    event_type: str
    body: bytes
    message_id: str | None
    headers: Mapping[str, object]
    attempt: int
    reason: str
    subject: str | None = None

    @classmethod
    def malformed(
        cls, delivery: Delivery, body: bytes, reason: str, subject: str | None = None
    ) -> "FailedEvent":
        """A failed event that has no key of its own: its bytes and its message name it."""
        named_by = [
            storable(delivery.routing_key).encode(),
            storable(delivery.message_id or "").encode(),
            body,
        ]
        digest = sha256(b"\0".join(named_by)).hexdigest()
        return cls(
            event_key=f"malformed:{digest}",
            event_type=delivery.routing_key,
            body=body,
            message_id=delivery.message_id,
            headers=delivery.headers,
            attempt=delivery.attempt,
            reason=reason,
            subject=subject,
        )


def storable(text: str) -> str:
    """Text that every store can keep: NUL and lone surrogates are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


DEATH_HEADERS = (
    "x-death",
    *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")),
    "x-delivery-count",
    "x-acquired-count",
)
"""What a broker notes of a message that it dead-lettered or delivered again: not true of its next way."""


DELAY_SECONDS_MAX = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """An event to be tried again `delay_seconds` (0 to a year) from now, by the database's clock."""

    event: FailedEvent
    delay_seconds: float


class FailureStore(Protocol):
    """Retries and dead letters of one service, in its own database. All methods raise DatabaseUnavailable."""

    async def set_aside(
        self, postponed: Sequence[Postponed], dead: Sequence[FailedEvent], *, ended: Collection[int] = ()
    ) -> None:
        """Store retries and dead letters, and remove the leased retries `ended` (by tag), in one transaction.

        Repeating it stores nothing twice: an event that waits for its retry already keeps its due time, and a
        dead letter that is there already is counted once more (`times_seen`).
        """

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        """Those of `event_keys` that wait for a retry now."""
        ...

    async def lease_due(self, limit: int, *, lease_seconds: float) -> Sequence[Delivery]:
        """Take up to `limit` due retries; each comes due again after the lease unless it was ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that was set aside, with all that is needed to replay it."""

    id: int
    event_type: str
    event_key: str
    reason: str
    attempts: int
    times_seen: int
    body: bytes
    message_id: str | None
    headers: Mapping[str, object] = field(default_factory=dict)
    moved_to_dlq_at: datetime


class DeadLetters(Protocol):
    """What an operator does with dead letters. All methods raise DatabaseUnavailable."""

    async def list(self, *, limit: int, after_id: int = 0) -> Sequence[DeadLetter]: ...

    async def get(self, dead_letter_id: int) -> DeadLetter | None: ...

    async def replay(self, ids: Collection[int]) -> int:
        """Hand the dead letters `ids` to the service again; return how many.

        Their attempts are forgotten, and DEATH_HEADERS are left out.
        """
        ...

    async def discard(self, ids: Collection[int], *, reason: str) -> int:
        """Delete the dead letters `ids`, logging each with `reason`; return how many."""
        ...
