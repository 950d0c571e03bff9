"""The plain implementation keeps the promises that it is measured with."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select

from bench.plain import models, orders, processor
from bench.plain.models import Base, OutboxEvent, Sessions
from service_kit.testing.postgres_server import PostgresServer, fresh_database

_RESULT = {"order_id": "o-1", "status": "success", "fail_reason": None, "version": 2}
_CREATED = {"order_id": "o-1", "customer_id": "c", "items": [], "version": 1}


@pytest.fixture
async def sessions(postgres_server: PostgresServer) -> AsyncIterator[Sessions]:
    async with fresh_database(postgres_server, "plain", _nothing) as dsn:
        made = await models.sessions(dsn)
        yield made
        await made.kw["bind"].dispose()


@pytest.fixture
async def pending(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        session.add(orders.Order(order_id="o-1", customer_id="c", items=[]))


async def _nothing(_: str) -> None:
    """The models make their own tables."""


async def stored(sessions: Sessions) -> tuple[str, int]:
    async with sessions() as session:
        order = await session.get_one(orders.Order, "o-1")
        return order.status, order.version


async def count(sessions: Sessions, table: type[Base]) -> Any:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(table))


@pytest.mark.usefixtures("pending")
async def test_a_result_makes_its_order_final(sessions: Sessions) -> None:
    await orders.apply_result(sessions, _RESULT)
    assert await stored(sessions) == ("done", 2)


@pytest.mark.usefixtures("pending")
async def test_an_older_or_repeated_result_changes_nothing(sessions: Sessions) -> None:
    await orders.apply_result(sessions, _RESULT | {"version": 3})
    await orders.apply_result(sessions, _RESULT | {"status": "failed"})
    await orders.apply_result(sessions, _RESULT | {"version": 3, "status": "failed"})
    assert await stored(sessions) == ("done", 3)


async def test_an_order_is_processed_once(sessions: Sessions) -> None:
    await processor.process(sessions, _CREATED)
    await processor.process(sessions, _CREATED)
    assert await count(sessions, OutboxEvent) == 1
    assert await count(sessions, processor.ProcessingState) == 1


async def test_an_older_event_is_not_answered(sessions: Sessions) -> None:
    await processor.process(sessions, _CREATED | {"version": 2})
    await processor.process(sessions, _CREATED)
    assert await count(sessions, OutboxEvent) == 1
