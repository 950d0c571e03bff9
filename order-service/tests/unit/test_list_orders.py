"""Reading the list page by page, on a list in memory."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from order_service.application.list_orders import Page, PageOfOrders, UnknownCursor, list_orders
from order_service.application.ports import OrderReader, Place, Span
from order_service.domain.order import OrderId, OrderSummary

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def an_order(order_id: str, minute: int) -> OrderSummary:
    moment = NOON + timedelta(minutes=minute)
    return OrderSummary(
        order_id=OrderId(order_id), customer_id="c", total_amount=Decimal(1), created_at=moment
    )


class ListInMemory(OrderReader):
    def __init__(self, *orders: OrderSummary) -> None:
        self.orders = list(orders)

    async def summaries(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, OrderSummary]:
        raise NotImplementedError

    async def final(self, order_ids: Collection[OrderId]) -> Sequence[OrderSummary]:
        raise NotImplementedError

    async def place(self, order_id: OrderId) -> Place | None:
        return next((place_of(order) for order in self.orders if order.order_id == order_id), None)

    async def newest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        return [*reversed(self._within(span))][:limit]

    async def oldest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        return self._within(span)[:limit]

    def _within(self, span: Span) -> list[OrderSummary]:
        within = [order for order in self.orders if span.above < place_of(order) < span.below]
        return sorted(within, key=place_of)


def place_of(order: OrderSummary) -> Place:
    assert order.created_at
    return Place(order.created_at, order.order_id)


# From the newest to the oldest: e, d, c, b, a; b and c were created in the same instant.
READER = ListInMemory(
    an_order("a", 0), an_order("c", 1), an_order("b", 1), an_order("d", 2), an_order("e", 3)
)


def shown(page: Page) -> tuple[str, bool]:
    return "".join(order.order_id for order in page.orders), page.has_more


async def page(limit: int = 10, **asked: object) -> tuple[str, bool]:
    cursors = {
        name: OrderId(str(asked.pop(name))) for name in ("starting_after", "ending_before") if name in asked
    }
    return shown(await list_orders(PageOfOrders(limit=limit, **cursors, **asked), READER))  # type: ignore[arg-type]


async def test_the_newest_come_first() -> None:
    assert await page() == ("edcba", False)


async def test_a_full_page_says_whether_there_are_more() -> None:
    assert await page(4) == ("edcb", True)
    assert await page(5) == ("edcba", False)


async def test_a_page_goes_on_after_the_last_of_the_one_before() -> None:
    assert await page(2) == ("ed", True)
    assert await page(2, starting_after="d") == ("cb", True)
    assert await page(2, starting_after="b") == ("a", False)
    assert await page(2, starting_after="a") == ("", False)


async def test_a_page_before_an_order_holds_its_nearest_neighbours_newest_first() -> None:
    assert await page(2, ending_before="a") == ("cb", True)
    assert await page(2, ending_before="c") == ("ed", False)
    assert await page(2, ending_before="e") == ("", False)


async def test_the_begin_of_a_time_is_within_and_its_end_is_not() -> None:
    first, second = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)

    assert await page(created_from=first) == ("edcb", False)
    assert await page(created_to=second) == ("cba", False)
    assert await page(created_from=first, created_to=second) == ("cb", False)
    assert await page(created_from=second, created_to=first) == ("", False)


async def test_cursor_and_time_together_mean_both() -> None:
    first = NOON + timedelta(minutes=1)

    assert await page(starting_after="c", created_from=first) == ("b", False)
    assert await page(starting_after="a", created_from=first) == ("", False)
    assert await page(starting_after="e", created_to=first) == ("a", False)
    assert await page(ending_before="a", created_to=NOON + timedelta(minutes=2)) == ("cb", False)
    assert await page(1, ending_before="a", created_from=NOON + timedelta(minutes=2)) == ("d", True)


@pytest.mark.parametrize("cursor", ["starting_after", "ending_before"])
async def test_a_cursor_that_is_no_order_is_told(cursor: str) -> None:
    with pytest.raises(UnknownCursor, match="'x'"):
        await page(**{cursor: "x"})  # type: ignore[arg-type]
