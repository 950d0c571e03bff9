"""PostgreSQL for tests: which server, and a fresh database of it for each test."""

import asyncio
import inspect
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from service_kit.testing.blocking import run_blocking
from service_kit.testing.wheel_postgres import wheel_postgres

Migrate = Callable[[str], Awaitable[object] | None]
"""Brings the empty database behind a DSN to the newest schema. A sync one is called in a thread."""

LOCAL_DSNS = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    "postgresql://postgres@/postgres?host=/var/run/postgresql",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A server on which the tests may create databases. `dsn` is that of a role that may, to any database."""

    dsn: str
    run_name: str = field(default_factory=lambda: f"test_{os.getpid()}_{uuid.uuid4().hex[:8]}")
    templates: dict[str, str] = field(default_factory=dict)

    def dsn_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))


def given_postgres() -> tuple[str, str] | None:
    """The DSN of a server that is there already, and where it was found; None when only the wheel is left.

    Raises ConnectionError when TEST_POSTGRES_DSN names a server that cannot be used.
    """
    if dsn := os.environ.get("TEST_POSTGRES_DSN"):
        dsn = dsn.replace("postgresql+asyncpg://", "postgresql://", 1)
        if problem := run_blocking(_problem(dsn)):
            raise ConnectionError(f"TEST_POSTGRES_DSN: {problem}")
        return dsn, "TEST_POSTGRES_DSN"
    return next(((dsn, "local") for dsn in LOCAL_DSNS if not run_blocking(_problem(dsn))), None)


@contextmanager
def postgres_for_tests(given_dsn: str | None) -> Iterator[PostgresServer]:
    """The given server, or one from the wheel; the templates made on it are dropped afterwards."""
    if given_dsn is None:
        with wheel_postgres() as dsn:
            yield PostgresServer(dsn=dsn)
        return
    server = PostgresServer(dsn=given_dsn)
    try:
        yield server
    finally:
        run_blocking(_drop(server, *server.templates.values()))


@asynccontextmanager
async def fresh_database(server: PostgresServer, template_key: str, migrate: Migrate) -> AsyncIterator[str]:
    """A new database, migrated by `migrate`, as its DSN; dropped afterwards whoever is still connected.

    `migrate` runs once a session for each `template_key`; every further database is a copy of its result.
    """
    if template_key not in server.templates:
        server.templates[template_key] = await _make_template(server, len(server.templates), migrate)
    database = f"{server.run_name}_{uuid.uuid4().hex[:12]}"
    await _execute(server, f'CREATE DATABASE "{database}" TEMPLATE "{server.templates[template_key]}"')
    try:
        yield server.dsn_of(database)
    finally:
        await _drop(server, database)


async def _make_template(server: PostgresServer, number: int, migrate: Migrate) -> str:
    template = f"{server.run_name}_template_{number}"
    await _execute(server, f"CREATE DATABASE \"{template}\" TEMPLATE template0 ENCODING 'UTF8'")
    try:
        outcome = await asyncio.to_thread(migrate, server.dsn_of(template))
        if inspect.isawaitable(outcome):
            await outcome
    except BaseException:
        await _drop(server, template)
        raise
    return template


async def _drop(server: PostgresServer, *databases: str) -> None:
    for database in databases:
        await _execute(server, f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


async def _execute(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _problem(dsn: str) -> str | None:
    """Why databases cannot be created there, or None when they can."""
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return str(error) or repr(error)
    try:
        may_create = await connection.fetchval(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        return None if may_create else "its role may not create databases"
    finally:
        await connection.close()
