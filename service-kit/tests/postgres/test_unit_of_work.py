import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service_kit.errors import DatabaseUnavailable
from service_kit.postgres.database import Connection, Database
from service_kit.postgres.unit_of_work import PostgresUnitOfWork
from service_kit.testing.inbox import PostgresInbox
from service_kit.testing.postgres_server import PostgresServer


class InboxUnitOfWork(PostgresUnitOfWork):
    inbox: PostgresInbox
    connection: Connection

    def begin(self, connection: Connection) -> None:
        self.inbox = PostgresInbox(connection)
        self.connection = connection


@pytest.fixture
async def single(dsn: str, database: Database) -> AsyncIterator[Database]:
    """With one connection only: what leaks it blocks everything after."""
    async with Database(dsn, application_name="single", connections_max=1) as single:
        yield single


@pytest.fixture
async def uow(single: Database) -> InboxUnitOfWork:
    return InboxUnitOfWork(single)


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def accept(uow: InboxUnitOfWork, *keys: str) -> set[str]:
    async with uow:
        accepted = await uow.inbox.accept(keys)
        await uow.commit()
    return accepted


async def stored(other: asyncpg.Connection) -> list[str]:
    return [record["event_key"] for record in await other.fetch("SELECT event_key FROM processed_inbox")]


async def kill(uow: InboxUnitOfWork, other: asyncpg.Connection) -> None:
    pid = await uow.connection.fetchval("SELECT pg_backend_pid()")
    await other.execute("SELECT pg_terminate_backend($1)", pid)


async def test_what_is_committed_is_stored(uow: InboxUnitOfWork, other: asyncpg.Connection) -> None:
    assert await accept(uow, "a") == {"a"}
    assert await stored(other) == ["a"]


async def test_what_is_not_committed_is_rolled_back(uow: InboxUnitOfWork, other: asyncpg.Connection) -> None:
    async with uow:
        await uow.inbox.accept(["a"])
    assert await stored(other) == []
    assert await accept(uow, "a") == {"a"}


async def test_an_exception_rolls_back_and_passes(uow: InboxUnitOfWork, other: asyncpg.Connection) -> None:
    with pytest.raises(LookupError):
        async with uow:
            await uow.inbox.accept(["a"])
            raise LookupError
    assert await stored(other) == []
    assert await accept(uow, "a") == {"a"}


async def test_an_exception_after_the_commit_takes_nothing_back(
    uow: InboxUnitOfWork, other: asyncpg.Connection
) -> None:
    with pytest.raises(LookupError):
        async with uow:
            await uow.inbox.accept(["a"])
            await uow.commit()
            raise LookupError
    assert await stored(other) == ["a"]
    assert await accept(uow, "b") == {"b"}


async def test_a_cancelled_one_is_rolled_back_and_usable_again(
    uow: InboxUnitOfWork, other: asyncpg.Connection
) -> None:
    accepted = asyncio.Event()

    async def accept_and_hang() -> None:
        async with uow:
            await uow.inbox.accept(["a"])
            accepted.set()
            await uow.connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(accept_and_hang())
    await accepted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(other) == []
    assert await accept(uow, "a") == {"a"}


async def test_a_commit_that_fails_is_an_outage_and_stores_nothing(
    uow: InboxUnitOfWork, other: asyncpg.Connection
) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with uow:
            await uow.inbox.accept(["a"])
            await kill(uow, other)
            await uow.commit()
    assert await stored(other) == []
    assert await accept(uow, "a") == {"a"}


async def test_a_connection_lost_on_the_way_is_an_outage(
    uow: InboxUnitOfWork, other: asyncpg.Connection
) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with uow:
            await kill(uow, other)
            await uow.inbox.accept(["a"])
    assert await accept(uow, "a") == {"a"}


async def test_a_constraint_that_fails_at_the_commit_is_a_fault_of_the_data(
    uow: InboxUnitOfWork, other: asyncpg.Connection
) -> None:
    await other.execute("CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with uow:
            await uow.connection.execute("INSERT INTO late VALUES (1), (1)")
            await uow.inbox.accept(["a"])
            await uow.commit()
    assert await stored(other) == []
    assert await accept(uow, "a") == {"a"}


async def test_one_that_cannot_begin_is_an_outage_and_usable_when_the_database_is_back(
    uow: InboxUnitOfWork, other: asyncpg.Connection, postgres_server: PostgresServer
) -> None:
    name = await other.fetchval("SELECT current_database()")
    maintenance = await asyncpg.connect(postgres_server.dsn)
    await maintenance.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        with pytest.raises(DatabaseUnavailable):
            await accept(uow, "b")
        with pytest.raises(DatabaseUnavailable):
            await accept(uow, "b")
    finally:
        await maintenance.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await maintenance.close()

    assert await accept(uow, "b") == {"b"}
