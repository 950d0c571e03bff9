"""Connections to one PostgreSQL database, and the one place where its errors are told apart."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from service_kit.errors import DatabaseUnavailable
from service_kit.postgres.connecting import CommitsUncancelled, Hosts
from service_kit.several_hosts import split_url

Record = asyncpg.Record

if TYPE_CHECKING:
    Connection = PoolConnectionProxy[Record]
else:
    Connection = PoolConnectionProxy

# Cardinality violation (a row twice in one statement), data exception, integrity constraint violation,
# program limit exceeded: the fault of what was written.
# Everything else a server can say (shutting down, out of disk, deadlock, read-only after a failover, a
# table that is not migrated yet) would be said of any message, and so is an outage.
_FAULTS_OF_THE_MESSAGE = {"21", "22", "23", "54"}
_CONNECT_TIMEOUT_SECONDS = 5.0
_KEPT_SECONDS_MAX = 60.0
_UNUSED_SECONDS_MAX = 240.0
"""Together these stay below 350 s, after which load balancers usually forget a connection that is silent."""

# Our statements find rows by an index. Of a table that is new the planner does not know that it will grow: it
# would keep a prepared plan that reads the whole of it for every batch, until the next ANALYZE. Compiling a
# plan takes longer than any of our statements runs, but the price of what is off makes it look worth while.
# And a plan is made once: for a look-up of one key, planning it each time takes longer than running it.
PLANS_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}


class Database:
    """A pool of connections, opened as they are needed.

    `command_timeout_seconds` bounds each statement, and the wait for a free connection.
    """

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str,
        connections_max: int = 8,
        command_timeout_seconds: float = 30.0,
    ) -> None:
        self._where = hosts(dsn)
        self.connections_max = connections_max
        self._timeout_seconds = command_timeout_seconds
        self._pool = asyncpg.create_pool(
            plain_dsn(dsn),
            connect=Hosts(plain_dsn(dsn)).connect,
            connection_class=CommitsUncancelled,
            min_size=0,
            max_size=connections_max,
            timeout=_CONNECT_TIMEOUT_SECONDS,
            command_timeout=command_timeout_seconds,
            server_settings={"application_name": application_name, **PLANS_BY_INDEX},
            reset=_no_reset,
            max_inactive_connection_lifetime=_UNUSED_SECONDS_MAX,
            max_queries=sys.maxsize,  # giving a connection back must not wait for the server
        )
        # Giving a connection to the pool and taking it again costs more than most statements.
        self._kept: deque[tuple[float, Connection]] = deque()
        self._waiting = 0

    async def __aenter__(self) -> Self:
        await self._pool  # opens nothing yet, since min_size is 0
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection on which each statement is its own transaction. Raises DatabaseUnavailable."""
        with outages(self._where):
            connection = await self._take()
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    # A primary that became a standby: the next connection finds the new primary.
                    connection.terminate()
                await self._pool.release(connection)
                raise
            await self._put_back(connection)

    async def _take(self) -> Connection:
        while self._kept:
            _, connection = self._kept.pop()
            if _is_open(connection):
                return connection
            await self._pool.release(connection)
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=self._timeout_seconds)
        finally:
            self._waiting -= 1

    async def _put_back(self, connection: Connection) -> None:
        """Keep it for the next, unless somebody waits for the pool's. Those not needed for long go there too.

        So do those that were closed, or left in a transaction: the pool rolls back.
        """
        if not _is_open(connection) or connection.is_in_transaction():
            await self._pool.release(connection)
            return
        now = asyncio.get_running_loop().time()
        self._kept.append((now, connection))
        while self._kept and (self._waiting or now - self._kept[0][0] > _KEPT_SECONDS_MAX):
            await self._pool.release(self._kept.popleft()[1])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end, rolled back when an exception leaves it.

        Raises DatabaseUnavailable; when the COMMIT was sent and its answer lost, it may have happened.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def open_connections(self, count: int) -> None:
        """Open `count` connections now and not in the path of the first requests.

        Raises DatabaseUnavailable.
        """
        async with AsyncExitStack() as stack:
            for _ in range(count):
                await stack.enter_async_context(self.connection())

    @property
    def idle_connections(self) -> int:
        return self._pool.get_idle_size() + sum(_is_open(connection) for _, connection in self._kept)

    @property
    def used_connections(self) -> int:
        return self._pool.get_size() - self.idle_connections

    async def problem(self) -> str | None:
        """None when the database answers; else raises DatabaseUnavailable."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")
        return None


class outages:  # noqa: N801, a block and not a thing
    """Within this block an error of PostgreSQL that is no fault of the data becomes DatabaseUnavailable."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and _is_outage(error):
            raise DatabaseUnavailable(f"the database at {self._where}: {_words(error)}") from error


def plain_dsn(dsn: str) -> str:
    """The DSN without SQLAlchemy's driver name, as the driver itself wants it."""
    return dsn.replace("postgresql+asyncpg://", "postgresql://", 1)


def hosts(dsn: str) -> str:
    """Where a DSN leads, without names and passwords: `one:5432,two:5432/orders`."""
    parts = split_url(dsn)
    return f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}"


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] not in _FAULTS_OF_THE_MESSAGE
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # asyncpg.DataError: the driver cannot encode the value
    # InternalClientError: what asyncpg says of a connection that the server is just closing, and when no host
    # of several is the primary.
    return isinstance(error, (OSError, asyncpg.InternalClientError))


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0] or type(error).__name__


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it was closed meanwhile, and the pool has it back
        return False


async def _no_reset(_: asyncpg.Connection) -> None:
    """Spare the round trip of RESET ALL at each release; the pool rolls back what is open in any case."""
