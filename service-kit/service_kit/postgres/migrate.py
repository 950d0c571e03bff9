"""Alembic, run by the service itself or from the command line, on asyncpg and under one lock."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import asyncpg
from alembic import command, context, op
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from service_kit.errors import DatabaseUnavailable, StartupError
from service_kit.postgres.connecting import Hosts
from service_kit.postgres.database import hosts, outages, plain_dsn

# Any number, the same in all that migrate one database: the second waits until the first has finished.
_LOCK = 0x6F72646572
_LOCK_POLL_SECONDS = 0.1

# A change of a table takes it for itself, for a moment. While it waits for that, everybody else waits behind
# it: whoever uses the table for longer than this makes the migration fail, and be tried again.
_TABLE_LOCK_TIMEOUT = "SET lock_timeout = '1s'"

# Alembic keeps the environment that it runs in globals: two services in one process take turns.
_one_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of a package, such as `order_service:migrations`."""

    location: str

    async def prepare(self, dsn: str, *, migrate: bool) -> None:
        """Bring the database to the newest revision, or (`migrate` False) wait until somebody else has."""
        if migrate:
            await self.upgrade(dsn)
        else:
            await self.await_newest(dsn)

    async def upgrade(self, dsn: str) -> str:
        """Migrate to the newest revision and return it; safe to repeat, and from several processes at once.

        Raises DatabaseUnavailable, and StartupError when the database is newer than this code.
        """
        newest = self._scripts().get_current_head() or "none"
        if await self._known_revision(dsn) == newest:
            return newest
        config = self._config()
        config.attributes["dsn"] = dsn
        with outages(hosts(dsn)):
            # In a thread, since Alembic's own entry point is synchronous and starts an event loop.
            await asyncio.to_thread(_upgrade, config)
        return newest

    async def await_newest(self, dsn: str) -> None:
        """Return if the database is at the newest revision.

        Raises DatabaseUnavailable as long as somebody else has to migrate it first, otherwise as `upgrade`.
        """
        current, newest = await self._known_revision(dsn), self._scripts().get_current_head()
        if current != newest:
            raise DatabaseUnavailable(
                f"the schema is at revision {current or '(none)'}, and {newest} is needed: "
                "run the command migrate, or let APP__MIGRATE=true do it"
            )

    async def _known_revision(self, dsn: str) -> str | None:
        """The revision that the database is at, None when it was never migrated."""
        with outages(hosts(dsn)):
            current = await _revision(dsn)
        if current and current not in {script.revision for script in self._scripts().walk_revisions()}:
            raise StartupError(
                f"the database at {hosts(dsn)} is at revision {current}, which this version does not know: "
                "it is another service's, or that of a newer version; APP__DB_DSN names it"
            )
        return current

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", self.location)
        return config

    def _scripts(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())


def _upgrade(config: Config) -> None:
    with _one_at_a_time:
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            # SQLAlchemy wraps twice what the driver said; `outages` knows the driver's words only.
            raise (error.orig and error.orig.__cause__) or error from None


async def _revision(dsn: str) -> str | None:
    try:
        connection = await _connected(dsn)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise StartupError(f"APP__DB_DSN: the database at {hosts(dsn)} refuses us: {error}") from error
    except ValueError as error:
        raise StartupError(f"APP__DB_DSN: {error}", exit_code=2) from error
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return revision
    finally:
        connection.terminate()


async def _connected(dsn: str) -> asyncpg.Connection:
    return await Hosts(plain_dsn(dsn)).connect(timeout=5)


def run_environment() -> None:
    """What a service's `env.py` calls: Alembic's entry, from a thread or the command line."""
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    dsn: str | None = context.config.attributes.get("dsn")
    if dsn is None:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("alembic").setLevel(logging.INFO)
    asyncio.run(_migrate(dsn or os.environ.get("APP__DB_DSN")))


async def _migrate(dsn: str | None) -> None:
    if not dsn:
        raise StartupError("APP__DB_DSN is not set: give the database's address, postgresql://…", exit_code=2)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: _connected(dsn), poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(_migrate_locked)
    await engine.dispose()


def _migrate_locked(connection: Connection) -> None:
    """One process at a time. Each revision is a transaction, so that the schema is that of one of them.

    The lock is the session's, and outlives the transactions in between. It is asked for again and again: a
    statement that waits for it would be waited for by CREATE INDEX CONCURRENTLY of the one who has it.
    """
    while not connection.execute(text(f"SELECT pg_try_advisory_lock({_LOCK})")).scalar():
        connection.rollback()
        time.sleep(_LOCK_POLL_SECONDS)
    connection.execute(text(_TABLE_LOCK_TIMEOUT))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def outside_of_transactions() -> Iterator[None]:
    """Within this block of a revision each statement is a transaction of its own.

    What the revision did before is committed. When it fails here it runs again from its beginning, and must
    be fit for that.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # nobody waits behind these
        yield
        op.execute(_TABLE_LOCK_TIMEOUT)


def build_index(name: str, definition: str) -> None:
    """Build an index while the table is read and written, outside of transactions.

    One of that name is what a broken attempt has left, and perhaps not valid: it is built anew.
    """
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
