"""Lines about a request that failed by a defect."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from random import Random

import httpx
from structlog.testing import capture_logs

from order_service.api.routes import order_routes
from order_service.application.create_orders import CreateOutcome
from order_service.application.ports import CreateOrder, OrderIntake, OrderReader, Place, Span
from order_service.domain.order import Order, OrderId, OrderSummary
from order_service.infrastructure.order_watch import OrderWatch
from service_kit.group_commit import GroupCommit
from service_kit.http.application import application
from service_kit.observability.metrics import Metrics

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Broken(OrderIntake, OrderReader):
    async def insert_new(self, commands: Sequence[CreateOrder]) -> Mapping[OrderId, datetime]:
        raise ZeroDivisionError

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        raise ZeroDivisionError

    async def summaries(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, OrderSummary]:
        raise ZeroDivisionError

    async def final(self, order_ids: Collection[OrderId]) -> Sequence[OrderSummary]:
        raise ZeroDivisionError

    async def place(self, order_id: OrderId) -> Place | None:
        raise ZeroDivisionError

    async def newest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        raise ZeroDivisionError

    async def oldest(self, span: Span, limit: int) -> Sequence[OrderSummary]:
        raise ZeroDivisionError


async def test_a_failed_request_is_logged_with_order_and_trace() -> None:
    async def commit(commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome]:
        raise ZeroDivisionError

    broken = Broken()
    routes = order_routes(GroupCommit(commit), broken, broken, OrderWatch(broken), Random(1))
    app = application(routes, metrics=Metrics())
    order = {"order_id": "o-1", "customer_id": "c", "items": [{"sku": "s", "quantity": 1, "price": 1}]}
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers=headers
    ) as client:
        with capture_logs() as lines:
            await client.post("/orders", json=order)
            await client.get("/orders/o-1")

    told = [(line["event"], line["method"], line["order_id"], line["trace_id"]) for line in lines]
    assert told == [("request_failed", method, "o-1", TRACE_ID) for method in ("POST", "GET")]
