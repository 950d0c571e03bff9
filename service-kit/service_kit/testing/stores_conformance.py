"""What the suites of the four stores share: `Stores`, which each implementation gives as a fixture."""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from service_kit.failures import DeadLetters, FailedEvent, FailureStore, Postponed
from service_kit.outbox import OutboxBacklog, OutboxEvent, OutboxStore
from service_kit.retry import Backoff, RetryPolicy
from service_kit.testing.inbox import Inbox

RETRY_POLICY = RetryPolicy(attempts_max=3, backoff=Backoff(first_seconds=60, max_seconds=3600, jitter=0))
"""What the outbox under test has to be made with: a minute, two minutes, dead."""

HOUR = 3600.0


class MeasuredOutbox(OutboxStore, Protocol):
    async def backlog(self) -> OutboxBacklog: ...

    async def lag_seconds(self) -> float: ...


class Stores(Protocol):
    """The stores of one service, empty, and what a test cannot do through them."""

    @property
    def outbox(self) -> MeasuredOutbox: ...

    @property
    def failures(self) -> FailureStore: ...

    @property
    def dead_letters(self) -> DeadLetters: ...

    def inbox(self) -> AbstractAsyncContextManager[Inbox]:
        """In a transaction of its own, committed at the end, rolled back by an exception."""
        ...

    async def add_to_outbox(self, *events: OutboxEvent) -> None: ...

    async def pass_time(self, seconds: float) -> None:
        """Move everything that is stored into the past, or the clock on."""

    async def seconds_since_first_failure(self, event_key: str) -> float:
        """Of an event that waits for a retry."""
        ...


def outbox_event(number: int, event_type: str = "order.created") -> OutboxEvent:
    return OutboxEvent(
        event_type=event_type,
        payload=b'{"number":%d}' % number,
        traceparent=f"00-0af7651916cd43dd8448eb211c80319c-{number:016x}-01",
    )


def failed_event(
    event_key: str = "order.created:o1:1",
    *,
    attempt: int = 1,
    body: bytes = b'{"order_id":"o1"}',
    reason: str = "no stock",
    message_id: str | None = "m1",
    headers: Mapping[str, object] | None = None,
) -> FailedEvent:
    return FailedEvent(
        event_key=event_key,
        event_type="order.created",
        body=body,
        message_id=message_id,
        headers={} if headers is None else headers,
        attempt=attempt,
        reason=reason,
    )


async def postpone(
    stores: Stores, *events: FailedEvent, delay_seconds: float = HOUR, ended: Collection[int] = ()
) -> None:
    postponed = [Postponed(event=event, delay_seconds=delay_seconds) for event in events]
    await stores.failures.set_aside(postponed, [], ended=ended)


async def bury(stores: Stores, *events: FailedEvent, ended: Collection[int] = ()) -> None:
    await stores.failures.set_aside([], events, ended=ended)
