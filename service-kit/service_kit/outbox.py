"""The transactional outbox: events are written with the change they tell of, and published afterwards."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


class OutboxEvent(NamedTuple):
    """An event to be written. `payload` is one JSON object, UTF-8."""

    event_type: str
    payload: bytes
    traceparent: str


class OutboxRow(NamedTuple):
    """An event that waits to be published. `attempts` counts publishings that failed by its own fault.

    `waited_seconds` have passed, by the database's clock, from its commit until it was claimed.
    """

    id: int
    event_type: str
    payload: bytes
    message_id: str
    traceparent: str | None
    attempts: int
    waited_seconds: float = 0.0


class OutboxClaim(Protocol):
    """Rows that no other relay can see until the claim ends."""

    @property
    def rows(self) -> Sequence[OutboxRow]: ...

    async def settle(
        self, *, published: Collection[int], rejected: Mapping[int, str], publish_seconds: float = 0.0
    ) -> int:
        """Remove the rows with ids `published`; give each of `rejected` (id → reason) another attempt.

        It is noted that the published ones are confirmed now, and were sent `publish_seconds` before.

        A rejected row waits by the retry policy, and after its last attempt is moved to the dead letters.
        Rows in neither are left as they were. Returns how many rows became dead letters.
        """
        ...


class OutboxStore(Protocol):
    def claim(
        self, limit: int, *, only: str | None = None, excluding: Collection[str] = ()
    ) -> AbstractAsyncContextManager[OutboxClaim]:
        """Claim up to `limit` due rows, oldest first, skipping rows that are claimed by others.

        `only` restricts to one event type, `excluding` leaves types out. Leaving the context without
        `settle` releases the rows as they were. Raises DatabaseUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxBacklog:
    """How much waits to be published, and since when."""

    pending: int
    oldest_created_at: datetime | None
