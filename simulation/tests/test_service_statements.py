"""The statements of the services on PostgreSQL, and on the model that has to do the same."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

import order_service.main
import processor_service.main
from service_kit.postgres.database import Database
from service_kit.testing.postgres_server import PostgresServer, fresh_database
from service_kit.testing.shared_postgres import SharedPostgres
from service_kit.testing.transactions_conformance import SharedDatabase
from simulation.tests.models import SharedModel
from simulation.tests.orders_conformance import OrdersConformance, SharedOrders
from simulation.tests.states_conformance import StatesConformance

EMPTY = "TRUNCATE {}, outbox, publications, processed_inbox, retry_queue, dead_letter_queue RESTART IDENTITY"

# The database's clock cannot be moved, but all that it has written can.
AGE = """
WITH age AS (SELECT $1 * interval '1 s' AS seconds),
aged_outbox AS (UPDATE outbox SET created_at = created_at - seconds, due_at = due_at - seconds FROM age)
UPDATE orders SET created_at = created_at - seconds, reemitted_at = reemitted_at - seconds FROM age
"""

LOGGED = "SELECT type, order_id, version, reason FROM order_log ORDER BY position"


class SharedPostgresOrders(SharedPostgres):
    """Implements SharedOrders."""

    async def pass_time(self, seconds: float) -> None:
        async with self.database.connection() as connection:
            await connection.execute(AGE, seconds)

    async def logged(self) -> list[tuple[str, str, int, str | None]]:
        return [tuple(record) for record in await self._observer.fetch(LOGGED)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orders_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    migrate = order_service.main.MIGRATIONS.upgrade
    async with fresh_database(postgres_server, "order-service", migrate) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def states_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    migrate = processor_service.main.MIGRATIONS.upgrade
    async with fresh_database(postgres_server, "processor-service", migrate) as dsn:
        yield dsn


class TestPostgresOrders(OrdersConformance):
    @pytest.fixture
    async def shared(self, orders_dsn: str) -> AsyncIterator[SharedOrders]:
        observer = await asyncpg.connect(orders_dsn)
        await observer.execute(EMPTY.format("orders, order_log"))
        async with Database(orders_dsn, application_name="conformance") as database:
            yield SharedPostgresOrders(database, observer)
        observer.terminate()


class TestModelOrders(OrdersConformance):
    @pytest.fixture
    async def shared(self) -> SharedOrders:
        return SharedModel()


class TestPostgresStates(StatesConformance):
    @pytest.fixture
    async def shared(self, states_dsn: str) -> AsyncIterator[SharedDatabase]:
        observer = await asyncpg.connect(states_dsn)
        await observer.execute(EMPTY.format("processing_states"))
        async with Database(states_dsn, application_name="conformance") as database:
            yield SharedPostgres(database, observer)
        observer.terminate()


class TestModelStates(StatesConformance):
    @pytest.fixture
    async def shared(self) -> SharedDatabase:
        return SharedModel()
