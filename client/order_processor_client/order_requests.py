"""The requests of the public API."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import httpx
import msgspec

from order_processor_client.errors import ProblemError
from order_processor_client.models import (
    BulkResult,
    CreatedOrder,
    NewOrder,
    Order,
    OrderPage,
    Timeline,
)
from order_processor_client.request import (
    Page,
    Request,
    json_as,
    json_bytes,
    json_lines_as,
    paged,
    path,
    query,
    unexpected,
)
from order_processor_client.retry import NOT_NOW

ORDERS_PER_PAGE = 100
ORDERS_PER_BULK = 1_000
_BYTES_PER_BULK = 512 * 1024


def create_order(order: NewOrder | bytes) -> Request[CreatedOrder]:
    """Bytes are an order as JSON already."""
    body = order if isinstance(order, bytes) else json_bytes(order)
    return Request(method="POST", path="/orders", body=body, parse=_created)


def get_order(order_id: str, *, with_items: bool) -> Request[Order]:
    wanted = {"expand": "items"} if with_items else {}
    return Request(method="GET", path=path("orders", order_id), query=wanted, parse=json_as(Order))


def list_orders(
    *,
    customer_id: str | None = None,
    status: str | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    limit: int = ORDERS_PER_PAGE,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> Request[OrderPage]:
    wanted = query(
        customer_id=customer_id,
        status=status,
        created_from=created_from,
        created_to=created_to,
        limit=limit,
        starting_after=starting_after,
        ending_before=ending_before,
    )
    return Request(method="GET", path="/orders", query=wanted, parse=json_as(OrderPage))


def order_pages(first: Request[OrderPage]) -> Request[Page[Order]]:
    return paged(first, lambda page: page.data, starting_after=lambda order: order.order_id)


def bulk_parts(orders: Iterable[NewOrder | bytes]) -> Iterator[Request[list[BulkResult]]]:
    """As many requests as needed; the results of all of them are counted on."""
    first, lines, size = 0, list[bytes](), 0
    for order in orders:
        line = _line(order)
        if line.isspace():
            continue
        if lines and (len(lines) == ORDERS_PER_BULK or size + len(line) > _BYTES_PER_BULK):
            yield _bulk(first, lines)
            first, lines, size = first + len(lines), [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield _bulk(first, lines)


def cancel_order(order_id: str, reason: str | None) -> Request[Order]:
    """Whoever repeats it gets the cancelled order again."""
    body = json_bytes({"reason": reason}) if reason is not None else b""
    return Request(method="POST", path=path("orders", order_id, "cancel"), body=body, parse=json_as(Order))


def get_timeline(order_id: str) -> Request[Timeline]:
    return Request(method="GET", path=path("orders", order_id, "timeline"), parse=json_as(Timeline))


def _created(response: httpx.Response) -> CreatedOrder:
    order = json_as(Order)(response)
    return CreatedOrder(order=order, replayed="idempotent-replayed" in response.headers)


def _line(order: NewOrder | bytes) -> bytes:
    """In JSON, line ends stand between values only."""
    text = order if isinstance(order, bytes) else json_bytes(order)
    if text.lstrip().startswith(b"["):
        return b"null\n"  # no order either; but as a first line it would turn the whole into an array
    return text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def _bulk(first: int, lines: Sequence[bytes]) -> Request[list[BulkResult]]:
    def parse(response: httpx.Response) -> list[BulkResult]:
        results = json_lines_as(BulkResult)(response)
        if len(results) != len(lines):
            raise unexpected(response, f"{len(results)} results of {len(lines)} orders")
        for result in results:
            if result.problem and result.status in NOT_NOW:
                raise ProblemError(result.problem)  # so that the whole is sent again
        return [msgspec.structs.replace(result, index=first + result.index) for result in results]

    return Request(
        method="POST",
        path="/orders/bulk",
        body=b"".join(lines),
        content_type="application/x-ndjson",
        parse=parse,
    )
