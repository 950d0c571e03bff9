"""What the use cases need from outside."""

from asyncio import Future
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, Self

from order_service.domain.order import Order, OrderId, OrderSummary, Status
from order_service.domain.value import value


@value
class CreateOrder:
    """An order that somebody wants created, and the W3C `traceparent` under which its event goes out.

    `accepted_at`, by the event loop's clock, is when the request had been read and was found valid.
    """

    order: Order
    traceparent: str
    accepted_at: float | None = None


class OrderIntake(Protocol):
    """Orders by single statements, each its own transaction."""

    async def insert_new(self, commands: Sequence[CreateOrder]) -> Mapping[OrderId, datetime]:
        """Insert the orders that are not there yet, each with its event `order.created`; say when it was.

        All in one transaction; no two of `commands` may be of one id. Of several callers at once exactly one
        inserts an order. When this returns, an order that was there already can be found.
        """
        ...

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        """The orders that exist, by id."""
        ...


class Place(NamedTuple):
    """Where an order stands among all, in the order of their creation. It stays there for ever."""

    created_at: datetime
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of the list: the orders between two places, both excluded, that fit what is asked for."""

    above: Place
    below: Place
    customer_id: str | None = None
    status: Status | None = None


class OrderReader(Protocol):
    """Stored orders, to be shown."""

    async def summaries(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, OrderSummary]:
        """The orders that exist, by id."""
        ...

    async def final(self, order_ids: Collection[OrderId]) -> Sequence[OrderSummary]:
        """Those of the orders that are not pending any more."""
        ...

    async def place(self, order_id: OrderId) -> Place | None:
        """Where the order stands; None when there is no such order."""
        ...

    async def newest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        """Up to `limit` orders of the span from its upper end on, the newest first. Bounded work, always."""
        ...

    async def oldest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        """The same from its lower end on, the oldest first."""
        ...


class FinalOrders(Protocol):
    """Tells of orders that become final, in this process or another."""

    def expecting(self, order_id: OrderId) -> AbstractContextManager["Future[OrderSummary | None]"]:
        """Within this block the future gets the order when it becomes final, or None when nobody will tell.

        Orders that became final before are seen too, if a little later.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedOrder:
    """What the processor decided: `version` is the one the order has after it."""

    key: str
    order_id: OrderId
    status: Status
    fail_reason: str | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An order that reached its final status, `seconds` after it was created."""

    order_id: OrderId
    status: Status
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What results came to: the orders that became final, and the ids of which there is no order."""

    finished: Sequence[Finished]
    unknown: Collection[OrderId]


class OrderResults(Protocol):
    async def apply(self, results: Sequence[ProcessedOrder]) -> Effect:
        """Accept the keys that were not seen before, and move their orders; no two of `results` are of one.

        All in one transaction, whoever else changes these orders meanwhile: an order moves only when it is
        pending, and older than its result. The key of a result whose order is unknown is not accepted.
        """
        ...


class Orders(Protocol):
    """Orders within a transaction."""

    async def cancel(self, order_id: OrderId, reason: str | None) -> OrderSummary | None:
        """Cancel the order if it is pending, and return it as it is then; None when it is not."""
        ...

    async def take_overdue(self, limit: int, *, after_seconds: float) -> Sequence[Order]:
        """Up to `limit` orders that are pending for `after_seconds`, and whose event is not in the outbox.

        An order that was taken is due again once its age has doubled, after an hour at the latest.
        """
        ...


class Outbox(Protocol):
    async def add(self, commands: Sequence[CreateOrder]) -> None:
        """Write an event `order.created` for each with this transaction."""

    async def add_cancelled(self, order: OrderSummary, traceparent: str) -> None:
        """Write the event `order.cancelled` with this transaction."""


class UnitOfWork(Protocol):
    """A transaction: rolled back unless committed. Each `async with` starts a new one."""

    @property
    def orders(self) -> Orders: ...

    @property
    def outbox(self) -> Outbox: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exception: object) -> None: ...

    async def commit(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to an order, or an event about it that stands still.

    `at` which time, done `by` which process of `service`: None when that is not known. `detail` is JSON.
    """

    step: str
    at: datetime | None
    by: str | None
    service: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderHistory:
    """What this service knows of an order: the steps `before` the processor's and those `after`.

    `problems` say in words what could not be found out.
    """

    order: Order
    before: Sequence[Step]
    after: Sequence[Step]
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorHistory:
    """What the processor knows of an order."""

    steps: Sequence[Step] = ()
    problems: Sequence[str] = ()


class OrderHistories(Protocol):
    async def find(self, order_id: OrderId) -> OrderHistory | None: ...


class Processor(Protocol):
    async def history(self, order_id: OrderId) -> ProcessorHistory:
        """Raises nothing: that the processor does not answer is one of the problems."""
        ...
