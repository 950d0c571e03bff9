"""The plain processor-service: `python -m bench.plain.processor` with DSN, URL, EXCHANGE and POLL_SECONDS."""

import asyncio
import os
from typing import Any

import uvloop
from sqlalchemy.orm import Mapped, mapped_column

from bench.plain.broker import consume
from bench.plain.models import Base, OutboxEvent, ProcessedEvent, Sessions, sessions
from bench.plain.outbox import relay


class ProcessingState(Base):
    __tablename__ = "processing_states"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    status: Mapped[str]


async def main() -> None:
    url, exchange = os.environ["URL"], os.environ["EXCHANGE"]
    made = await sessions(os.environ["DSN"])

    async def handle(order: Any) -> None:
        await process(made, order)

    async with asyncio.TaskGroup() as group:
        group.create_task(relay(made, url, exchange, float(os.environ["POLL_SECONDS"])))
        group.create_task(consume(url, exchange, "order.created", handle))


async def process(made: Sessions, order: Any) -> None:
    """Once, and only if it is newer than what was processed of the order before."""
    order_id, version = order["order_id"], order["version"]
    event_key = f"order.created:{order_id}:{version}"
    async with made.begin() as session:
        if await session.get(ProcessedEvent, event_key):
            return
        session.add(ProcessedEvent(event_key=event_key))
        state = await session.get(ProcessingState, order_id)
        if state is None:
            session.add(ProcessingState(order_id=order_id, version=version, status="done"))
        elif state.version < version:
            state.version, state.status = version, "done"
        else:
            return
        answer = {"order_id": order_id, "status": "success", "fail_reason": None, "version": version + 1}
        session.add(OutboxEvent(event_type="order.processed", payload=answer))


if __name__ == "__main__":
    uvloop.run(main())
