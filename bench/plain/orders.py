"""The plain order-service: `python -m bench.plain.orders` with DSN, URL, EXCHANGE, PORT and POLL_SECONDS."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.plain.broker import consume
from bench.plain.models import Base, OutboxEvent, ProcessedEvent, Sessions, sessions
from bench.plain.outbox import relay


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (Index("orders_pending", "order_id", postgresql_where=text("status = 'pending'")),)

    order_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str]
    items: Mapped[Any]
    status: Mapped[str] = mapped_column(default="pending")
    version: Mapped[int] = mapped_column(default=1)
    fail_reason: Mapped[str | None]


@asynccontextmanager
async def lifespan(application: Starlette) -> AsyncIterator[None]:
    url, exchange = os.environ["URL"], os.environ["EXCHANGE"]
    application.state.sessions = made = await sessions(os.environ["DSN"])

    async def handle(result: Any) -> None:
        await apply_result(made, result)

    tasks = [
        asyncio.create_task(relay(made, url, exchange, float(os.environ["POLL_SECONDS"]))),
        asyncio.create_task(consume(url, exchange, "order.processed", handle)),
    ]
    yield
    for task in tasks:
        task.cancel()


async def post_order(request: Request) -> JSONResponse:
    received = await request.json()
    made: Sessions = request.app.state.sessions
    async with made.begin() as session:
        order = await session.get(Order, received["order_id"])
        is_new = order is None
        if order is None:
            order = Order(
                order_id=received["order_id"],
                customer_id=received["customer_id"],
                items=received["items"],
                status="pending",
                version=1,
            )
            session.add(order)
            session.add(OutboxEvent(event_type="order.created", payload=received | {"version": 1}))
    told = {"order_id": order.order_id, "status": order.status, "version": order.version}
    return JSONResponse(told, 201 if is_new else 200)


async def ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def apply_result(made: Sessions, result: Any) -> None:
    """Once, and only if it is newer than the order."""
    event_key = f"order.processed:{result['order_id']}:{result['version']}"
    async with made.begin() as session:
        if await session.get(ProcessedEvent, event_key):
            return
        session.add(ProcessedEvent(event_key=event_key))
        order = await session.get(Order, result["order_id"], with_for_update=True)
        if order and order.version < result["version"]:
            order.status = "done" if result["status"] == "success" else "failed"
            order.fail_reason = result["fail_reason"]
            order.version = result["version"]


application = Starlette(
    routes=[Route("/orders", post_order, methods=["POST"]), Route("/ready", ready)], lifespan=lifespan
)

if __name__ == "__main__":
    uvicorn.run(application, port=int(os.environ["PORT"]), log_level="warning")
