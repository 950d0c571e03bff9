"""Applying what the processor decided, and telling of pending orders again, on orders in memory."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Self

import pytest

from order_service.application.apply_processed import Applied, AppliedResults, apply_processed
from order_service.application.ports import (
    CreateOrder,
    Effect,
    Finished,
    OrderResults,
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
class ResultsInMemory(OrderResults):
    orders: dict[OrderId, Order]
    keys: set[str] = field(default_factory=set)

    async def apply(self, results: Sequence[ProcessedOrder]) -> Effect:
        known = [result for result in results if result.order_id in self.orders]
        moving = [result for result in known if result.key not in self.keys and self._may_move(result)]
        self.keys |= {result.key for result in known}
        for result in moving:
            self.orders[result.order_id] = replace(
                self.orders[result.order_id],
                status=result.status,
                version=result.version,
                fail_reason=result.fail_reason,
            )
        return Effect(
            finished=[
                Finished(order_id=result.order_id, status=result.status, seconds=0.5) for result in moving
            ],
            unknown={result.order_id for result in results} - self.orders.keys(),
        )

    def _may_move(self, result: ProcessedOrder) -> bool:
        order = self.orders[result.order_id]
        return order.status is Status.PENDING and order.version < result.version


class UnitOfWorkInMemory(UnitOfWork, Orders, Outbox):
    """Events are written at the commit; the step `breaks_at` fails."""

    def __init__(self, overdue: Sequence[Order], breaks_at: str = "") -> None:
        self.events: list[CreateOrder] = []
        self.overdue = overdue
        self.breaks_at = breaks_at
        self._added: list[CreateOrder] | None = None

    async def __aenter__(self) -> Self:
        assert self._added is None, "a transaction is running"
        self._added = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self._added = None

    async def commit(self) -> None:
        self.events += self._step("commit")

    @property
    def orders(self) -> Orders:
        return self

    @property
    def outbox(self) -> Outbox:
        return self

    async def cancel(self, order_id: OrderId, reason: str | None) -> OrderSummary | None:
        raise NotImplementedError

    async def take_overdue(self, limit: int, *, after_seconds: float) -> Sequence[Order]:
        assert after_seconds == 300.0
        return self.overdue[:limit]

    async def add(self, commands: Sequence[CreateOrder]) -> None:
        self._step("add").extend(commands)

    async def add_cancelled(self, order: OrderSummary, traceparent: str) -> None:
        raise NotImplementedError

    def _step(self, name: str) -> list[CreateOrder]:
        assert self._added is not None, "no transaction is running"
        if name == self.breaks_at:
            raise Broken
        return self._added


def results_for(*orders: Order) -> ResultsInMemory:
    return ResultsInMemory({order.order_id: order for order in orders})


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
    results = results_for(pending("a"), pending("b"))

    applied = await apply_processed([result("a"), result("b", fail_reason="Too fatty food")], results)

    assert applied == AppliedResults(
        [Applied.APPLIED, Applied.APPLIED],
        [
            Finished(order_id=OrderId("a"), status=Status.DONE, seconds=0.5),
            Finished(order_id=OrderId("b"), status=Status.FAILED, seconds=0.5),
        ],
    )
    assert results.orders == {
        "a": replace(pending("a"), status=Status.DONE, version=2),
        "b": replace(pending("b"), status=Status.FAILED, version=2, fail_reason="Too fatty food"),
    }


async def test_a_duplicate_result_changes_nothing() -> None:
    results = results_for(pending())
    await apply_processed([result()], results)
    once = deepcopy(results)

    assert await apply_processed([result()], results) == AppliedResults([Applied.IGNORED], [])
    assert results == once


async def test_a_result_whose_key_was_accepted_is_not_applied_even_to_a_pending_order() -> None:
    results = results_for(pending())
    results.keys = {result().key}

    assert (await apply_processed([result()], results)).outcomes == [Applied.IGNORED]
    assert results.orders == {"o-1": pending()}


async def test_a_result_that_is_not_newer_than_its_order_is_ignored() -> None:
    order = replace(pending(), version=3)
    results = results_for(order)

    assert (await apply_processed([result(version=3)], results)).outcomes == [Applied.IGNORED]
    assert (await apply_processed([result(version=2)], results)).outcomes == [Applied.IGNORED]
    assert results.orders == {"o-1": order}


async def test_a_final_order_stays_as_it_is_whatever_comes_later() -> None:
    final = replace(pending(), status=Status.FAILED, version=2, fail_reason="Too fatty food")
    results = results_for(final)

    assert await apply_processed([result(version=9)], results) == AppliedResults([Applied.IGNORED], [])
    assert results.orders == {"o-1": final}


async def test_a_result_of_an_unknown_order_is_not_accepted_and_works_once_the_order_is_there() -> None:
    results = results_for(pending("known"))

    applied = await apply_processed([result("unknown"), result("known")], results)

    assert applied.outcomes == [Applied.UNKNOWN_ORDER, Applied.APPLIED]
    assert results.keys == {result("known").key}
    results.orders[OrderId("unknown")] = pending("unknown")
    assert (await apply_processed([result("unknown")], results)).outcomes == [Applied.APPLIED]


async def test_overdue_orders_get_their_event_again_each_in_a_trace_of_its_own() -> None:
    traces = iter(["trace a", "trace b"])
    uow = UnitOfWorkInMemory(overdue=[pending("a"), pending("b"), pending("beyond the limit")])

    count = await reemit_pending(uow, after_seconds=300.0, limit=2, new_trace=lambda: next(traces))

    assert count == 2
    assert uow.events == [
        CreateOrder(order=pending("a"), traceparent="trace a"),
        CreateOrder(order=pending("b"), traceparent="trace b"),
    ]


@pytest.mark.parametrize("step", ["add", "commit"])
async def test_no_event_is_written_when_telling_again_fails(step: str) -> None:
    uow = UnitOfWorkInMemory(overdue=[pending()], breaks_at=step)

    with pytest.raises(Broken):
        await reemit_pending(uow, after_seconds=300.0, limit=2, new_trace=lambda: "trace")

    assert uow.events == []
