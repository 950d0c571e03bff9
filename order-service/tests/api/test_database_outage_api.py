"""The API while the database is away: a gate stands between the service and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.service import Service
from service_kit.testing.eventually import eventually

BODY: dict[str, Any] = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "items": [{"sku": "laptop", "quantity": 1, "price": 5}],
}
OTHER = BODY | {"order_id": "o-2"}


class Gate:
    """Hands bytes on in both directions. Closed, it refuses connections and cuts those that there are."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._muted = self._closed = False
        self._last_words: bytes | None = None

    @property
    def dsn(self) -> str:
        user, _, _ = self._target.netloc.rpartition("@")
        netloc = f"{user}@127.0.0.1:{self._port}" if user else f"127.0.0.1:{self._port}"
        return urlunsplit(self._target._replace(netloc=netloc))

    async def open(self) -> None:
        self._muted = self._closed = False
        self._last_words = None
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server:
            self._server.close()
        self._closed = True
        for writer in self._writers:
            writer.transport.abort()
        await eventually(lambda: not self._writers)

    def mute_after(self, words: bytes) -> None:
        """When the database has been sent `words`, it still hears, but its answers are lost."""
        self._last_words = words

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(
            self._target.hostname, self._target.port or 5432
        )
        both = {writer, there_writer}
        if self._closed:  # meanwhile
            for one in both:
                one.transport.abort()
            return
        self._writers |= both
        try:
            there = asyncio.create_task(self._hand_on(there_reader, writer, answers=True))
            await self._hand_on(reader, there_writer)
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
        finally:
            for one in both:
                one.transport.abort()
            self._writers -= both

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if not (answers and self._muted):
                    writer.write(data)
                if not answers and self._last_words and self._last_words in data:
                    self._muted = True
        except OSError:
            return
        finally:
            writer.close()


@pytest.fixture
async def gate(dsn: str) -> AsyncIterator[Gate]:
    gate = Gate(dsn)
    await gate.open()
    yield gate
    await gate.close()


@pytest.fixture
async def behind_gate(gate: Gate, broker: InProcessBroker) -> AsyncIterator[Service]:
    settings = OrderSettings(db_dsn=gate.dsn, port=0, auth="off", shutdown_grace_seconds=2.0)
    async with Service("order-service", order_service(settings, broker)) as service:
        yield service


@pytest.fixture
async def guest(behind_gate: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=behind_gate.url, timeout=30) as client:
        yield client


def is_unavailable(response: httpx.Response, path: str) -> None:
    problem = response.json()
    assert response.status_code == 503, problem
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["error_type"], problem["instance"]) == (
        503,
        "ServiceUnavailable",
        path,
    )
    assert problem["type"] and problem["title"] and problem["detail"]


async def order_ids(connection: asyncpg.Connection) -> list[str]:
    """Of the events, each of which has its order."""
    records = await connection.fetch(
        "SELECT order_id FROM orders JOIN outbox ON payload ->> 'order_id' = order_id"
    )
    assert len(records) == await connection.fetchval("SELECT count(*) FROM orders")
    return sorted(record["order_id"] for record in records)


async def test_without_a_database_requests_are_answered_503_and_afterwards_201(
    gate: Gate, behind_gate: Service, guest: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await behind_gate.ready()
    assert (await guest.post("/orders", json=BODY)).status_code == 201

    await gate.close()
    is_unavailable(await guest.post("/orders", json=OTHER), "/orders")
    is_unavailable(await guest.get("/orders/o-1"), "/orders/o-1")
    assert (await guest.post("/orders", content=b"{")).status_code == 400
    assert await order_ids(connection) == ["o-1"]

    await gate.open()
    again = await guest.post("/orders", json=OTHER)
    assert again.status_code == 201
    assert "idempotent-replayed" not in again.headers
    assert await order_ids(connection) == ["o-1", "o-2"]


async def test_many_requests_during_an_outage_leave_nothing_half_written(
    gate: Gate, behind_gate: Service, guest: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await behind_gate.ready()
    bodies = [BODY | {"order_id": f"o-{number}"} for number in range(100)]

    posts = [asyncio.create_task(guest.post("/orders", json=body)) for body in bodies]
    await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
    await gate.close()
    responses = await asyncio.gather(*posts)

    created = {response.json()["order_id"] for response in responses if response.status_code == 201}
    for response in responses:
        if response.status_code != 201:
            is_unavailable(response, "/orders")
    assert created
    assert created <= set(await order_ids(connection))


async def test_an_order_whose_commit_was_not_heard_of_is_replayed_when_it_is_sent_again(
    gate: Gate, behind_gate: Service, guest: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await behind_gate.ready()
    await guest.post("/orders", json=BODY)
    gate.mute_after(b"o-2")
    unheard = asyncio.create_task(guest.post("/orders", json=OTHER))

    async def is_committed() -> bool:
        return "o-2" in await order_ids(connection)

    await eventually(is_committed)
    await gate.close()
    is_unavailable(await unheard, "/orders")

    await gate.open()
    again = await guest.post("/orders", json=OTHER)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert await order_ids(connection) == ["o-1", "o-2"]


async def test_connections_that_the_server_ended_cost_one_answer_at_most(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """As a restart of PostgreSQL does."""
    await client.post("/orders", json=BODY)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'order-service'"
        " AND datname = current_database()"
    )

    async def is_taken() -> bool:
        response = await client.post("/orders", json=OTHER)
        if response.status_code != 201:
            is_unavailable(response, "/orders")
        return response.status_code == 201

    await eventually(is_taken)
    assert await order_ids(connection) == ["o-1", "o-2"]


async def test_ready_tells_of_the_outage_and_health_does_not(
    gate: Gate, behind_gate: Service, guest: httpx.AsyncClient
) -> None:
    await behind_gate.ready()
    await gate.close()

    ready, health, metrics = (
        await guest.get("/ready"),
        await guest.get("/health"),
        await guest.get("/metrics"),
    )

    assert ready.status_code == 503
    assert ready.json()["checks"]["database"]["ok"] is False
    assert ready.json()["checks"]["broker"]["ok"] is True
    assert (health.status_code, metrics.status_code) == (200, 200)


async def test_a_service_that_starts_before_its_database_serves_as_soon_as_that_is_there(
    gate: Gate, broker: InProcessBroker
) -> None:
    await gate.close()
    settings = OrderSettings(db_dsn=gate.dsn, port=0, auth="off", shutdown_grace_seconds=2.0)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        is_unavailable(await client.post("/orders", json=BODY), "/orders")
        checks = (await client.get("/ready")).json()["checks"]
        assert (checks["migrations"]["ok"], checks["database"]["ok"]) == (False, False)

        await gate.open()
        await service.ready()

        assert (await client.post("/orders", json=BODY)).status_code == 201
        assert (await client.get("/ready")).status_code == 200
