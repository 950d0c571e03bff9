"""What the use cases need from outside."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from processor_service.domain.decision import Decision, Verdict
from processor_service.domain.order import Order, OrderId
from processor_service.domain.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrderToProcess:
    """An order at its `attempt` (from 1); `last_error` tells of the attempt before. `key` names its event.

    `event` is the event as it was received, at `received_at` by the event loop's clock.
    """

    key: str
    order: Order
    attempt: int
    last_error: str | None
    traceparent: str | None
    event: bytes
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingState:
    """What was decided on `version` of an order.

    What it was decided on, `event` and `received_at`, is stored with it, and not found with it again.
    """

    order_id: OrderId
    version: int
    decision: Decision
    attempt_count: int
    last_error: str | None = None
    event: bytes | None = field(default=None, compare=False)
    received_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The event `order.processed` about a decided order, in the trace of what it answers."""

    state: ProcessingState
    traceparent: str | None


class Policy(Protocol):
    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        """A verdict for each order, in order. Raises nothing: what goes wrong with one order postpones it."""
        ...


class DecidedOrders(Protocol):
    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, ProcessingState]:
        """The newest state of those orders that have one."""
        ...

    async def record(self, decided: Mapping[str, Answer], repeated: Sequence[Answer]) -> set[OrderId]:
        """Store what was `decided`, by the keys of the events that asked, and answer; return what was stored.

        A state is stored when its event has no effect yet, and when no state as new is stored of its order:
        whoever is just storing one is waited for. Only what is stored is answered; what is `repeated` is in
        any case, after it. Each event and each order comes once in `decided`. All of it happens or nothing.

        Raises DatabaseUnavailable; when the answer of the database was lost, all of it may have happened.
        """
        ...


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
    """What this service knows of the way of an order; `problems` say in words what could not be found out."""

    order_id: OrderId
    steps: Sequence[Step]
    problems: Sequence[str] = ()


class OrderHistories(Protocol):
    async def find(self, order_id: OrderId) -> OrderHistory:
        """Without steps when nothing is known of the order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PastOrder:
    """An order that was decided. `rule` is the one that applied then, `event` what was decided on."""

    order_id: OrderId
    decided_at: datetime
    fail_reason: str | None
    rule: int | None
    event: bytes


class PastOrders(Protocol):
    async def before(self, last: PastOrder | None, limit: int) -> Sequence[PastOrder]:
        """Up to `limit` orders decided before `last`, the newest first; None begins with the newest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesInForce:
    """What decides now: a ruleset that comes from `source`, or the user's own `policy`, which has no rules.

    `problem` says why what is in the file now is not in force.
    """

    policy: str | None
    version: str
    source: str
    loaded_at: datetime
    rules: Sequence[Rule] = ()
    success_rate: float | None = None
    problem: str | None = None


class RulesNotReloaded(Exception):
    """There is no file to take the rules from, or it cannot be read."""


class Rules(Protocol):
    def in_force(self) -> RulesInForce: ...

    async def reload(self) -> None:
        """Take the rules from their file now.

        Raises InvalidRules and RulesNotReloaded: the rules stay as they are.
        """
        ...
