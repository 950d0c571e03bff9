"""Where is order X? Found by its id, its customer, its status or its time; and what is stuck."""

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from order_console.services import ADMIN
from order_console.site import Site, Visit, reason_of, to
from order_console.way import duration, way
from order_processor_client.models import Order
from order_processor_client.order_requests import get_order, get_timeline, list_orders
from order_processor_client.request import Service

ORDERS_PER_PAGE = 50
STUCK_SHOWN, STUCK_AFTER_SECONDS = 100, 30.0
STATUSES = ("pending", "done", "failed", "cancelled")


def routes(site: Site) -> list[Route]:
    async def orders(visit: Visit) -> Response:
        query, sought = visit.query, visit.query.optional("q")
        wanted = list_orders(
            customer_id=sought,
            status=query.optional("status"),
            created_from=query.time("from"),
            created_to=query.time("to"),
            starting_after=query.exact("after") or None,
            limit=ORDERS_PER_PAGE,
        )
        page, exact = await asyncio.gather(site.services.attempt(wanted), _order(site, sought))
        return site.show(visit, "orders.html", query=query, page=page, exact=exact, statuses=STATUSES)

    async def order(visit: Visit) -> Response:
        order_id = visit.query.exact("id")
        timeline = await site.services.ask(get_timeline(order_id))
        whole = await site.services.attempt(get_order(order_id, with_items=True))
        stages, items = way(timeline), whole.value.items if whole.value else None
        return site.show(
            visit,
            "order.html",
            timeline=timeline,
            stages=stages,
            took=duration(timeline, stages),
            items=items or None,
        )

    async def stuck(visit: Visit) -> Response:
        found = await site.services.attempt(
            ADMIN[Service.ORDER].stuck_orders(STUCK_SHOWN, STUCK_AFTER_SECONDS)
        )
        return site.show(visit, "stuck.html", stuck=found)

    async def reconcile(visit: Visit) -> Response:
        order_id = visit.form.exact("order_id")
        request = ADMIN[Service.ORDER].reconcile(reason_of(visit.form), [order_id] if order_id else None)
        count = await site.services.ask(request, operator=visit.operator)
        if order_id:
            return to("/order", id=order_id, note="reemitted", count=count)
        return to("/orders/stuck", note="reemitted", count=count)

    return [
        site.page("/orders", orders),
        site.page("/order", order),
        site.page("/orders/stuck", stuck),
        site.form("/reconcile", reconcile),
    ]


async def _order(site: Site, order_id: str | None) -> Order | None:
    """The one order of this id, if there is one: what is sought may be a customer."""
    return (await site.services.attempt(get_order(order_id, with_items=False))).value if order_id else None
