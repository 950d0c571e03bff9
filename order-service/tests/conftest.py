"""What the tests of order-service share: a migrated and empty database."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
import pytest_asyncio

from order_service.main import MIGRATIONS
from service_kit.postgres.database import Database
from service_kit.testing.postgres_server import PostgresServer, fresh_database

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("order-service", deadline=None)
hypothesis.settings.load_profile("order-service")


# Making and dropping a database takes longer than most tests, so that they share one, and find it empty.
EMPTY = """
DELETE FROM orders; DELETE FROM outbox; DELETE FROM processed_inbox;
TRUNCATE order_log RESTART IDENTITY; UPDATE order_log_head SET position = 0, forgotten = 0;
DELETE FROM retry_queue; DELETE FROM dead_letter_queue; DELETE FROM publications;
DELETE FROM replay_items; DELETE FROM replays; DELETE FROM flow_samples; DELETE FROM api_keys;
UPDATE consuming SET paused = false;
DELETE FROM webhook_endpoints; UPDATE webhook_cursor SET position = 0
"""
DISCONNECT_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server, "order-service", MIGRATIONS.upgrade) as dsn:
        yield dsn


@pytest.fixture
async def dsn(shared_dsn: str) -> str:
    """A migrated database without rows, to which nobody is connected."""
    connection = await asyncpg.connect(shared_dsn)
    await connection.execute(DISCONNECT_OTHERS)
    await connection.execute(EMPTY)
    await connection.close()
    return shared_dsn


@pytest.fixture
async def own_dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A migrated database for tests that change the tables themselves."""
    async with fresh_database(postgres_server, "order-service", MIGRATIONS.upgrade) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database(dsn, application_name="order-service-tests") as database:
        yield database


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside those of the service: to look, and to interfere."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


@pytest.fixture(scope="session")
def contracts_folder() -> Path:
    """The wire format as data: in the repository, but not in an image of the service."""
    folder = Path(__file__).parents[2] / "contracts"
    if not folder.is_dir():
        pytest.skip("there is no folder contracts/ beside the service")
    return folder


@pytest.fixture(scope="session")
def order_created_schema(contracts_folder: Path) -> dict[str, Any]:
    text = (contracts_folder / "messages" / "order.created.sent.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
