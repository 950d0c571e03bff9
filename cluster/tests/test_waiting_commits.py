"""A commit that waits for a synchronous standby is not given up in a way that makes it seen."""

import asyncio
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chaos.postgres import Postgres
from service_kit.errors import DatabaseUnavailable
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually

_NOBODY = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
_INSERT = "INSERT INTO orders VALUES ('a')"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
async def waiting_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """Its commits wait for a standby that does not exist."""
    folder = tmp_path_factory.mktemp("server")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    server = Postgres(folder, {})
    await server.create()
    owner = await asyncpg.connect(server.dsn("postgres"))
    await owner.execute("CREATE TABLE orders (order_id text PRIMARY KEY)")
    await owner.execute(_NOBODY)
    await owner.execute("SELECT pg_reload_conf()")
    await owner.close()
    yield server
    await server.end(signal.SIGQUIT)


@pytest.fixture
async def owner(waiting_server: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(waiting_server.dsn("postgres"))
    yield connection
    await connection.close()


@pytest.mark.parametrize("in_transaction", [True, False], ids=["COMMIT", "a statement by itself"])
async def test_a_commit_that_no_standby_has_is_never_seen(
    waiting_server: Postgres, owner: asyncpg.Connection, in_transaction: bool
) -> None:
    async with Database(
        waiting_server.dsn("postgres"), application_name="t", command_timeout_seconds=1
    ) as db:
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            async with db.transaction() if in_transaction else db.connection() as connection:
                await connection.execute(_INSERT)
        assert await owner.fetchval(_WAITING) == 1
        assert await owner.fetchval("SELECT count(*) FROM orders") == 0
        assert await db.problem() is None


async def test_a_commit_whose_caller_left_is_never_seen(
    waiting_server: Postgres, owner: asyncpg.Connection
) -> None:
    async with Database(waiting_server.dsn("postgres"), application_name="t") as db:

        async def insert() -> None:
            async with db.transaction() as connection:
                await connection.execute(_INSERT)

        task = asyncio.create_task(insert())

        async def waits() -> bool:
            return bool(await owner.fetchval(_WAITING))

        await eventually(waits)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await db.problem() is None
        assert await owner.fetchval(_WAITING) == 1
        assert await owner.fetchval("SELECT count(*) FROM orders") == 0
