"""More orders than may wait: refused at once, those before them answered."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx

from order_service.api.routes import order_routes
from order_service.application.create_orders import CreateOutcome, create_orders
from order_service.application.ports import CreateOrder, OrderIntake
from order_service.domain.order import Order, OrderId
from order_service.infrastructure.order_watch import OrderWatch
from order_service.infrastructure.reader import PostgresReader
from service_kit.group_commit import GroupCommit
from service_kit.http.application import application
from service_kit.observability.metrics import Metrics
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually


class SlowIntake(OrderIntake):
    """Stores what it is given once `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked: list[OrderId] = []
        self.stored: list[OrderId] = []

    async def insert_new(self, commands: Sequence[CreateOrder]) -> Mapping[OrderId, datetime]:
        order_ids = [command.order.order_id for command in commands]
        self.asked += order_ids
        await self.go_on.wait()
        self.stored += order_ids
        return dict.fromkeys(order_ids, datetime(2026, 11, 24, tzinfo=UTC))

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        raise NotImplementedError


def body(order_id: str) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer_id": "c-1",
        "items": [{"sku": "laptop", "quantity": 1, "price": 5}],
    }


async def test_an_order_too_many_is_refused_and_nothing_of_it_is_stored() -> None:
    intake = SlowIntake()

    async def commit(commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome]:
        return await create_orders(commands, intake)

    group = GroupCommit(commit, batch_max=1, flushes_max=1, waiting_max=1)
    reader = PostgresReader(Database("postgresql://nobody@127.0.0.1:1/none", application_name="none"))
    routes = order_routes(group, intake, reader, OrderWatch(reader), Random(1))
    app = application(routes, metrics=Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        posts = [asyncio.create_task(client.post("/orders", json=body("in the works")))]
        await eventually(lambda: intake.asked)
        for order_id in ("waiting", "too many"):
            posts.append(asyncio.create_task(client.post("/orders", json=body(order_id))))

        [refused], _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        intake.go_on.set()
        responses = await asyncio.gather(*posts)

    problem = refused.result().json()
    assert (problem["status"], problem["error_type"], problem["instance"]) == (503, "Overloaded", "/orders")
    assert refused.result().headers["content-type"] == "application/problem+json"
    assert int(refused.result().headers["retry-after"]) > 0
    assert sorted(response.status_code for response in responses) == [201, 201, 503]
    assert intake.stored == ["in the works", "waiting"]
