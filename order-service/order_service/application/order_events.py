"""Use cases: tell a client what becomes of an order, or of all, while it happens."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from order_service.application.ports import OrderReader
from order_service.domain.event import TYPE_OF, EventType, OrderEvent
from order_service.domain.order import OrderId, OrderSummary, Status

WAITING_MAX = 1_000
"""Most events that wait for one client; with more it is too slow."""


class End(StrEnum):
    """Why a stream ends that could go on."""

    STOPPING = "stopping"
    TOO_SLOW = "too_slow"
    KEY_NOT_VALID = "key_not_valid"


class StreamEnded(Exception):
    """Nothing will come any more."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class EventsForgotten(Exception):
    """What followed that event is not kept any more."""


class UnknownEvent(Exception):
    """No event has had that id yet."""


def _everybody(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events somebody wants: None is any. `may_see` says whose orders the one who asks may see."""

    order_id: OrderId | None = None
    customer_id: str | None = None
    types: frozenset[EventType] | None = None
    may_see: Callable[[str], bool] = _everybody

    def takes(self, event: OrderEvent) -> bool:
        return (
            (self.types is None or event.type in self.types)
            and (self.customer_id is None or event.order.customer_id == self.customer_id)
            and (self.order_id is None or event.order.order_id == self.order_id)
            and self.may_see(event.order.customer_id)
        )


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and the bytes in which everybody is told of it."""

    event: OrderEvent
    body: bytes


class EventStream:
    """Events on their way to one client."""

    def __init__(self, wanted: EventFilter) -> None:
        self.wanted = wanted
        self._waiting: deque[Told] = deque()
        self._news = asyncio.Event()
        self._end: End | None = None

    def put(self, told: Told) -> None:
        if self._end:
            return
        self._waiting.append(told)
        self._news.set()
        if len(self._waiting) > WAITING_MAX:
            self.end(End.TOO_SLOW)

    def end(self, end: End) -> None:
        """What waits is dropped: the client has not seen it, and resumes after what it has seen."""
        self._end = self._end or end
        self._waiting.clear()
        self._news.set()

    async def next(self, within_seconds: float) -> Sequence[Told]:
        """All that has arrived; nothing when nothing does in that time. Raises StreamEnded."""
        if not self._news.is_set():
            try:
                async with asyncio.timeout(within_seconds):
                    await self._news.wait()
            except TimeoutError:
                return ()
        if self._end:
            raise StreamEnded(self._end)
        self._news.clear()
        arrived, self._waiting = self._waiting, deque()
        return arrived


class OrderEvents(Protocol):
    """The log of changes, and those who follow it."""

    @property
    def position(self) -> int:
        """Up to where streams have been told; it moves only while somebody awaits."""
        ...

    @property
    def full(self) -> bool:
        """Whether there are as many streams as this process serves at a time."""
        ...

    async def started(self) -> None:
        """Return when `position` is known."""

    async def kept(self) -> tuple[int, int]:
        """Between which positions the log can be read: after the first, up to the second."""
        ...

    async def read(self, after: int, up_to: int) -> tuple[Sequence[OrderEvent], int]:
        """The next events of the log, and up to where it was read."""
        ...

    def tell(self, event: OrderEvent) -> Told: ...

    def stream(self, wanted: EventFilter) -> AbstractContextManager[EventStream]:
        """Within this block the stream gets every event beyond `position`."""
        ...


async def check_resumable(after: int, events: OrderEvents) -> None:
    """Raises EventsForgotten, UnknownEvent."""
    forgotten, head = await events.kept()
    if after < forgotten:
        raise EventsForgotten
    if after > max(head, events.position):
        raise UnknownEvent


async def follow_events(
    wanted: EventFilter, after: int | None, events: OrderEvents, *, heartbeat_seconds: float
) -> AsyncGenerator[Sequence[Told], None]:
    """What is wanted, without gap or repetition: first from the log, after the position `after`, then live.

    Yields nothing now and then, so that the client sees that the stream lives. Raises StreamEnded.
    """
    await events.started()
    while after is not None and after < events.position:
        found, after = await events.read(after, events.position)
        yield [events.tell(event) for event in found if wanted.takes(event)]
    # Nothing is awaited between the last look at the position and this.
    with events.stream(wanted) as stream:
        while True:
            arrived = await stream.next(heartbeat_seconds)
            yield [told for told in arrived if after is None or told.event.position > after]


async def follow_order(
    order_id: OrderId,
    after_version: int,
    events: OrderEvents,
    orders: OrderReader,
    *,
    may_see: Callable[[str], bool],
    heartbeat_seconds: float,
) -> AsyncGenerator[Sequence[Told], None]:
    """All events of the order that are newer than a version, up to its final one, which ends it.

    Ends at once when there is no such order. What has been is read from the order itself: it has not more
    than two events. Raises StreamEnded.
    """
    wanted = EventFilter(order_id=order_id, may_see=may_see)
    await events.started()
    with events.stream(wanted) as stream:
        order = (await orders.summaries([order_id])).get(order_id)
        if order is None or not may_see(order.customer_id):
            return
        past = [event for event in _past(order) if event.order.version > after_version]
        yield [events.tell(event) for event in past]
        version = max(order.version, after_version)
        final = order.status is not Status.PENDING
        while not final:
            arrived = await stream.next(heartbeat_seconds)
            yield [told for told in arrived if told.event.order.version > version]
            final = any(told.event.type is not EventType.CREATED for told in arrived)


def _past(order: OrderSummary) -> Sequence[OrderEvent]:
    assert order.created_at and order.updated_at
    new = OrderSummary(
        order_id=order.order_id,
        customer_id=order.customer_id,
        total_amount=order.total_amount,
        created_at=order.created_at,
        updated_at=order.created_at,
    )
    created = OrderEvent(position=0, type=EventType.CREATED, at=order.created_at, order=new)
    if order.status is Status.PENDING:
        return [created]
    return [created, OrderEvent(position=0, type=TYPE_OF[order.status], at=order.updated_at, order=order)]
