"""The tables of processor-service, and its migrations as `alembic` runs them."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from processor_service.main import MIGRATIONS

SERVICE_FOLDER = Path(__file__).parents[2]
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
COLUMNS = {
    "processing_states": {
        "order_id": "text",
        "version": "bigint",
        "status": "text",
        "attempt_count": "integer",
        "last_error": "text",
        "decided_at": "timestamp with time zone",
    },
    "outbox": {"id": "bigint", "event_type": "text", "payload": "jsonb"},
    "processed_inbox": {"event_key": "text"},
    "dead_letter_queue": {
        "id": "bigint",
        "original_event_type": "text",
        "payload": "jsonb",
        "body": "bytea",
        "failure_reason": "text",
        "moved_to_dlq_at": "timestamp with time zone",
    },
}


async def alembic(dsn: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "alembic",
        *arguments,
        cwd=SERVICE_FOLDER,
        env={**os.environ, "APP__DB_DSN": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def tables(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [record["table_name"] for record in await connection.fetch(TABLES)]
    finally:
        await connection.close()


@pytest.mark.parametrize("table", COLUMNS)
async def test_a_table_has_the_columns_that_its_users_query(
    connection: asyncpg.Connection, table: str
) -> None:
    records = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
    )
    types = {record["column_name"]: record["data_type"] for record in records}

    assert COLUMNS[table].items() <= types.items()


@pytest.mark.parametrize("values", ["'pending', NULL", "'done', 'why'", "'failed', NULL"])
async def test_the_database_itself_refuses_a_state_that_cannot_be(
    connection: asyncpg.Connection, values: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "INSERT INTO processing_states (order_id, version, attempt_count, status, fail_reason)"
            f" VALUES ('o-1', 1, 1, {values})"
        )


async def test_alembic_migrates_down_to_nothing_and_up_again(own_dsn: str) -> None:
    before = await tables(own_dsn)

    await alembic(own_dsn, "downgrade", "base")
    assert await tables(own_dsn) == ["alembic_version"]

    await alembic(own_dsn.replace("postgresql://", "postgresql+asyncpg://"), "upgrade", "head")
    assert await tables(own_dsn) == before


async def test_migrating_again_changes_nothing_also_while_the_tables_are_in_use(
    dsn: str, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO processing_states (order_id, version, attempt_count, status)"
            " VALUES ('o-1', 1, 1, 'done')"
        )
        await alembic(dsn, "upgrade", "head")

    assert await connection.fetchval("SELECT version FROM processing_states") == 1


async def test_several_that_migrate_an_empty_database_at_once_agree(own_dsn: str) -> None:
    before = await tables(own_dsn)
    await alembic(own_dsn, "downgrade", "base")

    await asyncio.gather(*(MIGRATIONS.upgrade(own_dsn) for _ in range(3)))

    assert await tables(own_dsn) == before
