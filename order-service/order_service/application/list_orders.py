"""Use case: read the list of orders, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
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


async def list_orders(asked: PageOfOrders, reader: OrderReader) -> Page:
    """A page of the list, whose places never change: orders that come meanwhile move nobody.

    Raises UnknownCursor.
    """
    above = Place(asked.created_from or _FIRST, "")
    below = Place(asked.created_to or _LAST, "")
    if asked.starting_after is not None:
        below = min(below, await _place(asked.starting_after, reader))
    if asked.ending_before is not None:
        above = max(above, await _place(asked.ending_before, reader))
    span = Span(above=above, below=below, customer_id=asked.customer_id, status=asked.status)
    if asked.ending_before is None:
        found = await reader.newest(span, asked.limit + 1)
        return Page(found[: asked.limit], len(found) > asked.limit)
    found = await reader.oldest(span, asked.limit + 1)
    return Page(found[: asked.limit][::-1], len(found) > asked.limit)


async def _place(order_id: OrderId, reader: OrderReader) -> Place:
    place = await reader.place(order_id)
    if place is None:
        raise UnknownCursor(order_id)
    return place
