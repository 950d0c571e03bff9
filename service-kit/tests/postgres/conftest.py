from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from service_kit.postgres import schema
from service_kit.postgres.database import Database
from service_kit.testing.postgres_server import PostgresServer, fresh_database


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database with the kit's tables: one a module, since making one costs more than any test here."""
    async with fresh_database(postgres_server, "service_kit.postgres.schema", create_tables) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """Open, and empty."""
    async with Database(dsn, application_name="tests") as database:
        async with database.connection() as connection:
            await connection.execute(
                "TRUNCATE outbox, processed_inbox, retry_queue, dead_letter_queue RESTART IDENTITY"
            )
        yield database


async def create_tables(dsn: str) -> None:
    async with (
        Database(dsn, application_name="tests") as database,
        database.transaction() as connection,
    ):
        for statement in schema.CREATE_V1:
            await connection.execute(statement)
