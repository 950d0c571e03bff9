"""Both services' migrations, run by the service itself and as `alembic` from the service's folder."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest

from service_kit.errors import DatabaseUnavailable, StartupError
from service_kit.postgres.migrate import Migrations
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import PostgresServer, fresh_database

RefusingServer = Callable[[str, str], AbstractAsyncContextManager[str]]

ROOT = Path(__file__).parents[3]
ORDERS, PROCESSING = Migrations("order_service:migrations"), Migrations("processor_service:migrations")
KIT_TABLES = {
    "alembic_version",
    "api_keys",
    "outbox",
    "publications",
    "processed_inbox",
    "dead_letter_groups",
    "audit_log",
    "replays",
    "replay_items",
    "consuming",
    "retry_queue",
    "dead_letter_queue",
}
ORDER_TABLES = KIT_TABLES | {
    "orders",
    "flow_samples",
    "order_log",
    "order_log_head",
    "webhook_cursor",
    "webhook_deliveries",
    "webhook_endpoints",
}
PROCESSING_TABLES = KIT_TABLES | {"processing_states"}

services = pytest.mark.parametrize(
    ("migrations", "tables"),
    [(ORDERS, ORDER_TABLES), (PROCESSING, PROCESSING_TABLES)],
    ids=["order_service", "processor_service"],
)
folders = pytest.mark.parametrize(
    ("folder", "tables"), [("order-service", ORDER_TABLES), ("processor-service", PROCESSING_TABLES)]
)


@pytest.fixture
async def empty(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """An empty database."""
    async with fresh_database(postgres_server, "empty", lambda _: None) as dsn:
        yield dsn


@pytest.fixture
async def another_empty(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with fresh_database(postgres_server, "empty", lambda _: None) as dsn:
        yield dsn


async def tables_of(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        records = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {record["tablename"] for record in records}


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def alembic(folder: str, dsn: str, *arguments: str) -> tuple[int | None, str]:
    """Exit code and output of `alembic …` in the service's folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", *arguments),
        cwd=ROOT / folder,
        env={**os.environ, "APP__DB_DSN": dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


# by the service


@services
async def test_an_empty_database_is_migrated_and_again_without_effect(
    empty: str, migrations: Migrations, tables: Collection[str]
) -> None:
    await migrations.upgrade(empty)
    assert await tables_of(empty) == tables
    await execute(empty, "INSERT INTO processed_inbox (event_key) VALUES ('kept')")
    await migrations.upgrade(empty)
    connection = await asyncpg.connect(empty)
    assert await connection.fetchval("SELECT count(*) FROM processed_inbox") == 1
    await connection.close()


async def test_several_may_migrate_one_database_at_once(empty: str) -> None:
    await asyncio.gather(*(ORDERS.upgrade(empty) for _ in range(4)))
    assert await tables_of(empty) == ORDER_TABLES


async def test_both_services_may_migrate_in_one_process_at_once(empty: str, another_empty: str) -> None:
    await asyncio.gather(ORDERS.upgrade(empty), PROCESSING.upgrade(another_empty))
    assert await tables_of(empty) == ORDER_TABLES
    assert await tables_of(another_empty) == PROCESSING_TABLES


async def test_a_process_waits_for_another_that_migrates(empty: str) -> None:
    commands = (alembic("order-service", empty, "upgrade", "head") for _ in range(2))
    first, second, _ = await asyncio.gather(*commands, ORDERS.upgrade(empty))
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert await tables_of(empty) == ORDER_TABLES


async def test_a_database_that_goes_away_while_migrating_is_an_outage_and_leaves_nothing_half_done(
    empty: str,
) -> None:
    other = await asyncpg.connect(empty)
    await other.execute(f"SELECT pg_advisory_lock({0x6F72646572})")
    task = asyncio.create_task(ORDERS.upgrade(empty))

    async def terminated() -> bool:
        count: int = await other.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ~ 'pg_try_advisory_lock|ROLLBACK' "
            "AND pid <> pg_backend_pid()"
        )
        return count == 1

    await eventually(terminated)
    with pytest.raises(DatabaseUnavailable):
        await task
    assert await tables_of(empty) == set()
    await other.close()
    await ORDERS.upgrade(empty)
    assert await tables_of(empty) == ORDER_TABLES


async def test_who_may_not_migrate_waits_until_somebody_else_has(empty: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"revision \(none\), and order_\d{4} is needed"):
        await ORDERS.prepare(empty, migrate=False)
    assert await tables_of(empty) == set()
    await ORDERS.prepare(empty, migrate=True)
    await ORDERS.prepare(empty, migrate=False)


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_newer_schema_is_one_clear_line(empty: str, migrate: bool) -> None:
    await ORDERS.upgrade(empty)
    await execute(empty, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartupError, match="revision 9999, which this version does not know") as raised:
        await ORDERS.prepare(empty, migrate=migrate)
    assert_one_line(raised.value)


async def test_a_revision_of_another_service_is_not_overwritten(empty: str) -> None:
    await execute(empty, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await execute(empty, "INSERT INTO alembic_version VALUES ('abcdef')")
    with pytest.raises(StartupError):
        await ORDERS.upgrade(empty)
    assert await tables_of(empty) == {"alembic_version"}


@pytest.mark.parametrize("migrate", [True, False])
async def test_two_addresses_that_were_swapped_are_noticed(
    empty: str, another_empty: str, migrate: bool
) -> None:
    await ORDERS.upgrade(empty)
    await PROCESSING.upgrade(another_empty)
    for migrations, other in ((PROCESSING, empty), (ORDERS, another_empty)):
        with pytest.raises(StartupError, match="another service's") as raised:
            await migrations.prepare(other, migrate=migrate)
        assert_one_line(raised.value)
    assert (await tables_of(empty), await tables_of(another_empty)) == (ORDER_TABLES, PROCESSING_TABLES)


# a database that cannot be used


@pytest.mark.parametrize("migrate", [True, False])
async def test_an_unknown_database_is_one_clear_line(postgres_server: PostgresServer, migrate: bool) -> None:
    with pytest.raises(StartupError, match=r'APP__DB_DSN.*database "nowhere-to-be-found" does not') as raised:
        await ORDERS.prepare(postgres_server.dsn_of("nowhere-to-be-found"), migrate=migrate)
    assert_one_line(raised.value)


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [("28P01", "password authentication failed"), ("28000", 'role "nobody" does not exist')],
)
async def test_a_wrong_login_is_one_clear_line(
    refusing_server: RefusingServer, sqlstate: str, text: str
) -> None:
    async with refusing_server(sqlstate, text) as dsn:
        with pytest.raises(StartupError, match=rf"APP__DB_DSN.*{text}") as raised:
            await ORDERS.upgrade(dsn)
    assert_one_line(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [("57P03", "the database system is starting up"), ("53300", "sorry, too many clients already")],
)
async def test_a_server_that_is_not_ready_yet_is_an_outage(
    refusing_server: RefusingServer, sqlstate: str, text: str
) -> None:
    async with refusing_server(sqlstate, text) as dsn:
        with pytest.raises(DatabaseUnavailable, match=text):
            await ORDERS.upgrade(dsn)


async def test_a_server_that_cannot_be_reached_is_an_outage() -> None:
    with pytest.raises(DatabaseUnavailable):
        await ORDERS.upgrade("postgresql://me@127.0.0.1:1/orders")


def assert_one_line(error: StartupError) -> None:
    assert "\n" not in str(error)
    assert error.exit_code == 1


# by the command of the original


@folders
async def test_the_command_migrates_twice_in_a_row_and_back(
    empty: str, folder: str, tables: Collection[str]
) -> None:
    for _ in range(2):
        code, output = await alembic(folder, empty, "upgrade", "head")
        assert code == 0, output
        assert await tables_of(empty) == tables
    code, output = await alembic(folder, empty, "downgrade", "base")
    assert code == 0, output
    assert await tables_of(empty) == {"alembic_version"}
    code, output = await alembic(folder, empty, "upgrade", "head")
    assert code == 0, output
    assert await tables_of(empty) == tables


async def test_the_command_takes_the_dsn_with_the_driver_in_it(empty: str) -> None:
    dsn = empty.replace("postgresql://", "postgresql+asyncpg://")
    code, output = await alembic("order-service", dsn, "upgrade", "head")
    assert code == 0, output
    assert await tables_of(empty) == ORDER_TABLES


async def test_the_command_writes_the_statements_when_it_may_not_run_them(empty: str) -> None:
    code, output = await alembic("order-service", empty, "upgrade", "head", "--sql")
    assert code == 0, output
    assert "CREATE TABLE orders" in output
    assert await tables_of(empty) == set()
