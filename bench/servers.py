"""PostgreSQL and RabbitMQ: private ones, durable as in production, or those that the settings give."""

import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg import Connection

from chaos import programs
from chaos.postgres import Postgres
from chaos.rabbitmq import RabbitMQ
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS

# What a small production server would have; durability is PostgreSQL's own default, all of it.
POSTGRES_SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "5min",
    "wal_compression": "on",
    "max_connections": "100",
    "track_commit_timestamp": "on",
}
PARTS = ("orders", "processor")


@dataclass(slots=True, kw_only=True)
class Servers:
    """`dsns` lead to the servers of the two services; databases are made beside what they name, and dropped.

    `postgres_pid`, `rabbitmq_pid`: of private servers, whose CPU time and memory can be measured.
    """

    dsns: dict[str, str]
    rabbitmq_url: str
    folder: Path
    postgres_pid: int | None = None
    rabbitmq_pid: int | None = None
    rabbitmq_version: str = ""
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def are_private(self) -> bool:
        return self.postgres_pid is not None

    def new_name(self) -> str:
        return f"bench_{os.getpid()}_{next(self._numbers)}"

    def dsn(self, part: str, database: str) -> str:
        return urlunsplit(urlsplit(self.dsns[part])._replace(path=f"/{database}"))

    @asynccontextmanager
    async def database(self, part: str, *, template: bool = True) -> AsyncIterator[str]:
        """The DSN of a new database, migrated when `template`; dropped at the end."""
        name = f"{self.new_name()}_{part}"
        async with connected(self.dsns[part]) as connection:
            await connection.execute(f'CREATE DATABASE "{name}"')
            try:
                dsn = self.dsn(part, name)
                if template:
                    migrations = ORDER_MIGRATIONS if part == "orders" else PROCESSOR_MIGRATIONS
                    await migrations.upgrade(dsn)
                yield dsn
            finally:
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def version(self) -> str:
        async with connected(self.dsns["orders"]) as connection:
            return str(await connection.fetchval("SHOW server_version")).split()[0]

    async def settle(self) -> None:
        """What was filled in is written out now, and not while something else is measured."""
        for dsn in {*self.dsns.values()}:
            async with connected(dsn) as connection:
                await connection.execute("CHECKPOINT")

    async def keeps_commit_times(self) -> bool:
        async with connected(self.dsns["orders"]) as connection:
            return str(await connection.fetchval("SHOW track_commit_timestamp")) == "on"


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    plain = dsn.replace("postgresql+asyncpg://", "postgresql://", 1)
    connection = await asyncpg.connect(plain, timeout=10, command_timeout=1800)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Given by APP__ORDER_DB_DSN, APP__PROCESSOR_DB_DSN and APP__RABBITMQ_URL, all three, or else private."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # noqa: ASYNC240, PostgreSQL runs as another user
        given = [
            os.environ.get(f"APP__{part}") for part in ("ORDER_DB_DSN", "PROCESSOR_DB_DSN", "RABBITMQ_URL")
        ]
        if all(given):
            orders, processor, url = (str(value) for value in given)
            yield Servers(dsns={"orders": orders, "processor": processor}, rabbitmq_url=url, folder=folder)
        else:
            async with _private(folder) as private:
                yield private


@asynccontextmanager
async def _private(folder: Path) -> AsyncIterator[Servers]:
    for part in ("postgres", "rabbitmq", "logs"):
        (folder / part).mkdir()
    async with AsyncExitStack() as stack:
        stack.callback(programs.bury_orphans)
        postgres = Postgres(folder / "postgres", POSTGRES_SETTINGS)
        rabbitmq = RabbitMQ(folder / "rabbitmq")
        stack.push_async_callback(postgres.end, signal.SIGQUIT)
        stack.push_async_callback(rabbitmq.close)
        await postgres.create()
        await rabbitmq.create()
        yield Servers(
            dsns=dict.fromkeys(PARTS, postgres.dsn("postgres")),
            rabbitmq_url=rabbitmq.url,
            folder=folder,
            postgres_pid=postgres.pid,
            rabbitmq_pid=rabbitmq.pid,
            rabbitmq_version=rabbitmq.version(),
        )
