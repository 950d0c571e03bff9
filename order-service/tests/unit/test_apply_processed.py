"""Applying what the processor decided, and telling of pending orders again, on a unit of work in memory."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Self

import pytest

from order_service.application.apply_processed import Applied, AppliedResults, apply_processed
from order_service.application.ports import (
    CreateOrder,
    Finished,
    Inbox,
    Orders,
    Outbox,
    ProcessedOrder,
    UnitOfWork,
)
from order_service.application.reemit_pending import reemit_pending
from order_service.domain.order import Item, Order, OrderId, OrderSummary, Status, new_order


class Broken(Exception):
    """The database broke."""


@dataclass
class Tables:
    orders: dict[OrderId, Order] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    events: list[CreateOrder] = field(default_factory=list)


class UnitOfWorkInMemory(UnitOfWork, Inbox, Orders, Outbox):
    """Changes a copy of `tables`, which replaces them at the commit; the step `breaks_at` fails."""

    def __init__(self, *orders: Order, overdue: Sequence[Order] = (), breaks_at: str = "") -> None:
        self.tables = Tables(orders={order.order_id: order for order in orders})
        self.overdue = overdue
        self.breaks_at = breaks_at
        self._changed: Tables | None = None

    async def __aenter__(self) -> Self:
        assert self._changed is None, "a transaction is running"
        self._changed = deepcopy(self.tables)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._changed = None

    async def commit(self) -> None:
        self.tables = self._step("commit")

    @property
    def inbox(self) -> Inbox:
        return self

    @property
    def orders(self) -> Orders:
        return self

    @property
    def outbox(self) -> Outbox:
        return self

    async def lock(self, order_ids: Collection[OrderId]) -> set[OrderId]:
        return set(order_ids) & self._step("lock").orders.keys()

    async def accept(self, keys: Collection[str]) -> set[str]:
        tables = self._step("accept")
        fresh = set(keys) - tables.keys
        tables.keys |= fresh
        return fresh

    async def finish(self, results: Collection[ProcessedOrder]) -> Sequence[Finished]:
        orders = self._step("finish").orders
        moving = [
            result
            for result in results
            if orders[result.order_id].status is Status.PENDING
            and orders[result.order_id].version < result.version
        ]
        for result in moving:
            orders[result.order_id] = replace(
                orders[result.order_id],
                status=result.status,
                version=result.version,
                fail_reason=result.fail_reason,
            )
        return [Finished(order_id=result.order_id, status=result.status, seconds=0.5) for result in moving]

    async def cancel(self, order_id: OrderId, reason: str | None) -> OrderSummary | None:
        raise NotImplementedError

    async def take_overdue(self, limit: int, *, after_seconds: float) -> Sequence[Order]:
        assert after_seconds == 300.0
        return self.overdue[:limit]

    async def add(self, commands: Sequence[CreateOrder]) -> None:
        self._step("add").events += commands

    async def add_cancelled(self, order: OrderSummary, traceparent: str) -> None:
        raise NotImplementedError

    def _step(self, name: str) -> Tables:
        assert self._changed is not None, "no transaction is running"
        if name == self.breaks_at:
            raise Broken
        return self._changed


def pending(order_id: str = "o-1") -> Order:
    return new_order(order_id, "c-1", [Item(sku="laptop", quantity=1, price=Decimal(1))])


def result(order_id: str = "o-1", version: int = 2, fail_reason: str | None = None) -> ProcessedOrder:
    return ProcessedOrder(
        key=f"order.processed:{order_id}:{version}",
        order_id=OrderId(order_id),
        status=Status.FAILED if fail_reason else Status.DONE,
        fail_reason=fail_reason,
        version=version,
    )


async def test_a_result_moves_its_order() -> None:
    uow = UnitOfWorkInMemory(pending("a"), pending("b"))

    applied = await apply_processed([result("a"), result("b", fail_reason="Too fatty food")], uow)

    assert applied == AppliedResults(
        [Applied.APPLIED, Applied.APPLIED],
        [
            Finished(order_id=OrderId("a"), status=Status.DONE, seconds=0.5),
            Finished(order_id=OrderId("b"), status=Status.FAILED, seconds=0.5),
        ],
    )
    assert uow.tables.orders == {
        "a": replace(pending("a"), status=Status.DONE, version=2),
        "b": replace(pending("b"), status=Status.FAILED, version=2, fail_reason="Too fatty food"),
    }


async def test_a_duplicate_result_changes_nothing() -> None:
    uow = UnitOfWorkInMemory(pending())
    await apply_processed([result()], uow)
    once = deepcopy(uow.tables)

    assert await apply_processed([result()], uow) == AppliedResults([Applied.IGNORED], [])
    assert uow.tables == once


async def test_a_result_whose_key_was_accepted_is_not_applied_even_to_a_pending_order() -> None:
    uow = UnitOfWorkInMemory(pending())
    uow.tables.keys = {result().key}

    assert (await apply_processed([result()], uow)).outcomes == [Applied.IGNORED]
    assert uow.tables.orders == {"o-1": pending()}


async def test_a_result_that_is_not_newer_than_its_order_is_ignored() -> None:
    order = replace(pending(), version=3)
    uow = UnitOfWorkInMemory(order)

    assert (await apply_processed([result(version=3)], uow)).outcomes == [Applied.IGNORED]
    assert (await apply_processed([result(version=2)], uow)).outcomes == [Applied.IGNORED]
    assert uow.tables.orders == {"o-1": order}


async def test_a_final_order_stays_as_it_is_whatever_comes_later() -> None:
    final = replace(pending(), status=Status.FAILED, version=2, fail_reason="Too fatty food")
    uow = UnitOfWorkInMemory(final)

    assert await apply_processed([result(version=9)], uow) == AppliedResults([Applied.IGNORED], [])
    assert uow.tables.orders == {"o-1": final}


async def test_a_result_of_an_unknown_order_is_not_accepted_and_works_once_the_order_is_there() -> None:
    uow = UnitOfWorkInMemory(pending("known"))

    applied = await apply_processed([result("unknown"), result("known")], uow)

    assert applied.outcomes == [Applied.UNKNOWN_ORDER, Applied.APPLIED]
    assert uow.tables.keys == {result("known").key}
    uow.tables.orders[OrderId("unknown")] = pending("unknown")
    assert (await apply_processed([result("unknown")], uow)).outcomes == [Applied.APPLIED]


@pytest.mark.parametrize("step", ["lock", "accept", "finish", "commit"])
async def test_nothing_is_changed_when_a_step_fails(step: str) -> None:
    uow = UnitOfWorkInMemory(pending(), breaks_at=step)
    before = deepcopy(uow.tables)

    with pytest.raises(Broken):
        await apply_processed([result()], uow)

    assert uow.tables == before


async def test_overdue_orders_get_their_event_again_each_in_a_trace_of_its_own() -> None:
    traces = iter(["trace a", "trace b"])
    uow = UnitOfWorkInMemory(overdue=[pending("a"), pending("b"), pending("beyond the limit")])

    count = await reemit_pending(uow, after_seconds=300.0, limit=2, new_trace=lambda: next(traces))

    assert count == 2
    assert uow.tables.events == [
        CreateOrder(order=pending("a"), traceparent="trace a"),
        CreateOrder(order=pending("b"), traceparent="trace b"),
    ]


@pytest.mark.parametrize("step", ["add", "commit"])
async def test_no_event_is_written_when_telling_again_fails(step: str) -> None:
    uow = UnitOfWorkInMemory(overdue=[pending()], breaks_at=step)

    with pytest.raises(Broken):
        await reemit_pending(uow, after_seconds=300.0, limit=2, new_trace=lambda: "trace")

    assert uow.tables.events == []
