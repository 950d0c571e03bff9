"""Lines about a request that failed by a defect."""

from collections.abc import Collection, Mapping, Sequence
from random import Random

import httpx
from structlog.testing import capture_logs

from order_service.api.routes import order_routes
from order_service.application.create_orders import CreateOutcome
from order_service.application.ports import CreateOrder, OrderIntake
from order_service.domain.order import Order, OrderId
from service_kit.group_commit import GroupCommit
from service_kit.http.application import application
from service_kit.observability.metrics import Metrics

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class BrokenIntake(OrderIntake):
    async def insert_new(self, commands: Sequence[CreateOrder]) -> set[OrderId]:
        raise ZeroDivisionError

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        raise ZeroDivisionError


async def test_a_failed_request_is_logged_with_order_and_trace() -> None:
    async def commit(commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome]:
        raise ZeroDivisionError

    app = application(order_routes(GroupCommit(commit), BrokenIntake(), Random(1)), metrics=Metrics())
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
