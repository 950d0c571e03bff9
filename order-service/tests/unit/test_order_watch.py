"""Waiting for the end of orders, in virtual time and on a reader that counts."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal

import pytest

from order_service.application.ports import OrderReader, Place, Span
from order_service.domain.order import OrderId, OrderSummary, Status
from order_service.infrastructure.order_watch import OrderWatch
from service_kit.errors import DatabaseUnavailable
from service_kit.testing.virtual_time import VirtualTime

A, B = OrderId("a"), OrderId("b")
POLL_SECONDS = 0.25


def done(order_id: OrderId) -> OrderSummary:
    return OrderSummary(
        order_id=order_id, customer_id="c", total_amount=Decimal(1), status=Status.DONE, version=2
    )


class FinalOrdersInMemory(OrderReader):
    """Notes each question; fails `outages` times."""

    def __init__(self) -> None:
        self.done: set[OrderId] = set()
        self.questions: list[list[OrderId]] = []
        self.outages = 0

    async def final(self, order_ids: Collection[OrderId]) -> Sequence[OrderSummary]:
        self.questions.append(sorted(order_ids))
        if self.outages:
            self.outages -= 1
            raise DatabaseUnavailable("gone")
        return [done(order_id) for order_id in order_ids if order_id in self.done]

    async def summaries(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, OrderSummary]:
        raise NotImplementedError

    async def place(self, order_id: OrderId) -> Place | None:
        raise NotImplementedError

    async def newest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        raise NotImplementedError

    async def oldest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        raise NotImplementedError


@pytest.fixture
def orders() -> FinalOrdersInMemory:
    return FinalOrdersInMemory()


@pytest.fixture
async def watch(orders: FinalOrdersInMemory) -> AsyncIterator[OrderWatch]:
    watch = OrderWatch(orders, poll_seconds=POLL_SECONDS)
    task = asyncio.create_task(watch.run())
    yield watch
    watch.stop()
    await task


async def test_an_end_in_this_process_is_told_at_once(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    with watch.expecting(A) as end, watch.expecting(B):
        await virtual_time.settle()
        orders.done = {A}
        watch.finished(A)
        assert await end == done(A)

    assert virtual_time.seconds < 0.001
    assert orders.questions == [[A]]


async def test_an_end_in_another_process_is_told_at_the_next_look(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    with watch.expecting(A) as end:
        orders.done = {A}
        assert await end == done(A)

    assert POLL_SECONDS <= virtual_time.seconds < 2 * POLL_SECONDS


async def test_a_stream_of_ends_here_does_not_hide_those_elsewhere(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    orders.done = {A}
    with watch.expecting(A) as end, watch.expecting(B):
        while not end.done():
            watch.finished(B)
            await virtual_time.advance(0.01)

    assert virtual_time.seconds < 2 * POLL_SECONDS


async def test_nobody_is_asked_while_nobody_waits(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    await virtual_time.advance(100)
    watch.finished(A)
    await virtual_time.advance(100)
    with watch.expecting(A):
        pass
    await virtual_time.advance(100)

    assert orders.questions == []


async def test_all_who_wait_are_served_by_one_statement(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    order_ids = [OrderId(f"{number:04}") for number in range(1500)]
    orders.done = set(order_ids)
    with ExitStack() as stack:
        ends = [stack.enter_context(watch.expecting(order_id)) for order_id in order_ids * 2]
        assert {order.order_id for order in await asyncio.gather(*ends) if order} == orders.done

    assert orders.questions == [order_ids]


async def test_several_may_wait_for_one_order_and_one_may_give_up(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    with watch.expecting(A) as first:
        with watch.expecting(A):
            await virtual_time.settle()
        orders.done = {A}
        assert await first == done(A)


async def test_an_outage_costs_a_while(
    watch: OrderWatch, orders: FinalOrdersInMemory, virtual_time: VirtualTime
) -> None:
    orders.done, orders.outages = {A}, 3
    with watch.expecting(A) as end:
        assert await end == done(A)

    assert len(orders.questions) == 4


async def test_a_drain_lets_nobody_wait_any_more(watch: OrderWatch, virtual_time: VirtualTime) -> None:
    with watch.expecting(A) as before:
        watch.end()
        assert await before is None
    with watch.expecting(A) as after:
        assert await after is None
