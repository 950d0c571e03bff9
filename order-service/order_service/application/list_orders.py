"""Use case: read the list of orders, a page at a time."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from order_service.application.ports import OrderReader, Place, Span
from order_service.domain.errors import OrderError
from order_service.domain.order import OrderId, OrderSummary, Status

_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


class UnknownCursor(OrderError):
    """There is no order at which the page could begin."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is no order {order_id!r}")
        self.order_id = order_id


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfOrders:
    """What is asked for. Orders created at `created_from` are in it, those at `created_to` are not.

    At most one of the two cursors may be given; it need not fit the filters.
    """

    limit: int
    customer_id: str | None = None
    status: Status | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    starting_after: OrderId | None = None
    ending_before: OrderId | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `has_more`: whether there are others beyond it, in the direction that was asked for."""

    orders: Sequence[OrderSummary]
    has_more: bool


async def list_orders(asked: PageOfOrders, reader: OrderReader, *, customers: Set[str] | None = None) -> Page:
    """A page of the list, whose places never change: orders that come meanwhile move nobody.

    As if there were no other orders than those of `customers`. Raises UnknownCursor.
    """
    above = Place(asked.created_from or _FIRST, "")
    below = Place(asked.created_to or _LAST, "")
    if asked.starting_after is not None:
        below = min(below, await _place(asked.starting_after, reader, customers))
    if asked.ending_before is not None:
        above = max(above, await _place(asked.ending_before, reader, customers))
    span = Span(above=above, below=below, customer_id=asked.customer_id, status=asked.status)
    newest_first = asked.ending_before is None
    found = await _merged(_spans(span, customers), asked.limit + 1, reader, newest_first=newest_first)
    orders = found[: asked.limit]
    return Page(orders if newest_first else orders[::-1], len(found) > asked.limit)


def _spans(span: Span, customers: Set[str] | None) -> Sequence[Span]:
    """One for all, or one for each customer: each is read from its own place of the customers' index."""
    if customers is None:
        return [span]
    if span.customer_id is not None:
        return [span] if span.customer_id in customers else []
    return [replace(span, customer_id=customer_id) for customer_id in sorted(customers)]


async def _merged(
    spans: Sequence[Span], limit: int, reader: OrderReader, *, newest_first: bool
) -> Sequence[OrderSummary]:
    read = reader.newest if newest_first else reader.oldest
    if len(spans) == 1:
        return await read(spans[0], limit)
    found = [order for span in spans for order in await read(span, limit)]
    return sorted(found, key=_place_of, reverse=newest_first)[:limit]


def _place_of(order: OrderSummary) -> Place:
    assert order.created_at is not None, "it is stored"
    return Place(order.created_at, order.order_id)


async def _place(order_id: OrderId, reader: OrderReader, customers: Set[str] | None) -> Place:
    if customers is None:
        place = await reader.place(order_id)
    else:
        order = (await reader.summaries([order_id])).get(order_id)
        place = _place_of(order) if order and order.customer_id in customers else None
    if place is None:
        raise UnknownCursor(order_id)
    return place
