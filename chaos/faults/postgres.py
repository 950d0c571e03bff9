"""Faults of the PostgreSQL server."""

import asyncio
import os
import signal
from contextlib import suppress
from random import Random

import asyncpg
import psutil

from chaos.disk import Disk
from chaos.faults.fault import Fault
from chaos.postgres import APP_ROLE
from chaos.setup import Setup
from chaos.stage import Stage

_SESSIONS = f"SELECT pid FROM pg_stat_activity WHERE usename = '{APP_ROLE}'"
_END = "SELECT pg_terminate_backend($1)"
_AGE = "SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = pg_backend_pid()"


async def immediate(stage: Stage, random: Random) -> None:
    await _ended(stage, random, signal.SIGQUIT)


async def killed(stage: Stage, random: Random) -> None:
    await _ended(stage, random, signal.SIGKILL)


async def _ended(stage: Stage, random: Random, how: signal.Signals) -> None:
    await stage.postgres.end(how)
    stage.evidence["database stops"] += 1
    await asyncio.sleep(random.uniform(0, 2))
    await stage.postgres.start()


async def sessions_ended(stage: Stage, random: Random) -> None:
    """Half of the services' sessions, several times."""
    async with stage.database("postgres") as connection:
        for _ in range(5):
            for row in await connection.fetch(_SESSIONS):
                if random.random() < 0.5:
                    stage.evidence["sessions ended"] += await connection.fetchval(_END, row["pid"])
            await asyncio.sleep(0.2)


async def session_crashed(stage: Stage, random: Random) -> None:
    """One session's process is killed: PostgreSQL then ends all others, and recovers."""
    async with stage.database("postgres") as connection:
        pids = [row["pid"] for row in await connection.fetch(_SESSIONS)]
    with suppress(psutil.NoSuchProcess, IndexError):
        victim = psutil.Process(random.choice(pids))
        if victim.ppid() == stage.postgres.pid:
            os.kill(victim.pid, signal.SIGKILL)
            stage.evidence["sessions crashed"] += 1
    await asyncio.sleep(0.5)
    await stage.postgres.start()


async def exhausted(stage: Stage, random: Random) -> None:
    """All connections are taken by others for three seconds, those of the services too."""
    before = stage.postgres.log_count("too many clients", "connection slots")
    others: list[asyncpg.Connection] = []
    clock = asyncio.get_running_loop().time
    ends_at = clock() + 3
    try:
        async with stage.database("postgres") as connection:
            while clock() < ends_at:
                await connection.fetch(
                    f"SELECT pg_terminate_backend(pid) FROM ({_SESSIONS} AND application_name <> 'chaos') s"
                )
                await _fill(stage, others)
                await asyncio.sleep(0.1)
    finally:
        for other in others:
            other.terminate()
    stage.evidence["connections refused"] += (
        stage.postgres.log_count("too many clients", "connection slots") - before
    )


async def _fill(stage: Stage, others: list[asyncpg.Connection]) -> None:
    dsn = stage.postgres.dsn("postgres", role=APP_ROLE)
    with suppress(OSError, asyncpg.PostgresError):
        while True:
            others.append(
                await asyncpg.connect(dsn, timeout=2, server_settings={"application_name": "chaos"})
            )


_LOCK_ORDER = "SELECT FROM orders WHERE order_id = $1 FOR UPDATE"


async def deadlocked(stage: Stage, random: Random) -> None:
    """Locks pending orders from the last to the first, against the order of the services.

    The processors stand still for a moment, so that many are pending, and their results come in one batch.
    """
    before = stage.postgres.log_count("deadlock detected")
    with suppress(asyncpg.PostgresError, TimeoutError):
        async with asyncio.timeout(6), stage.database("orders") as connection, connection.transaction():
            # Whoever looks first for a deadlock is its victim, and that is to be the service.
            await connection.execute("SET LOCAL deadlock_timeout = '30s'")
            async with stage.paused(stage.processors):
                await asyncio.sleep(1)
                rows = await connection.fetch("SELECT order_id FROM orders WHERE status = 'pending'")
                order_ids = sorted((row["order_id"] for row in rows), reverse=True)
                for order_id in order_ids[:1]:
                    await connection.execute(_LOCK_ORDER, order_id)
            await asyncio.sleep(0.5)  # a batch of results holds the first of them, and waits for the last
            for order_id in order_ids[1:]:
                await connection.execute(_LOCK_ORDER, order_id)
    stage.evidence["deadlocks"] += stage.postgres.log_count("deadlock detected") - before


async def idle_transaction(stage: Stage, random: Random) -> None:
    """An old snapshot keeps every dead row of both databases for most of the run."""
    async with (
        stage.database("orders") as orders,
        stage.database("processor") as processor,
        _snapshot(orders),
        _snapshot(processor),
    ):
        await asyncio.sleep(0.6 * stage.seconds)
        for connection in (orders, processor):
            stage.evidence["transactions held back"] += await connection.fetchval(_AGE)


class _snapshot:  # noqa: N801, a block and not a thing
    """A transaction that looks once and then does nothing."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._transaction = connection.transaction(isolation="repeatable_read")

    async def __aenter__(self) -> None:
        await self._transaction.start()
        await self._connection.execute("SELECT count(*) FROM outbox")

    async def __aexit__(self, *_: object) -> None:
        await self._transaction.rollback()


async def disk_full(stage: Stage, random: Random) -> None:
    """PostgreSQL cannot write, and may go down; there is room again after some seconds."""
    before = stage.postgres.log_count("No space left on device")
    stage.disk.fill()
    try:
        await asyncio.sleep(random.uniform(2, 4))
    finally:
        stage.disk.free()
    await stage.postgres.start()
    stage.evidence["writes without space"] += stage.postgres.log_count("No space left on device") - before


def _fault(name: str, story: str, inject: object, *bites: str, **postgres: str) -> Fault:
    return Fault(name=name, story=story, inject=inject, bites=bites, setup=Setup(postgres=postgres))  # type: ignore[arg-type]


FAULTS = [
    _fault(
        "postgres-immediate",
        "PostgreSQL stopped at once, recovering at its start",
        immediate,
        "database stops",
    ),
    _fault("postgres-kill", "kill -9 of PostgreSQL, recovering at its start", killed, "database stops"),
    _fault(
        "sessions-ended",
        "half of the services' sessions ended by the server",
        sessions_ended,
        "sessions ended",
    ),
    _fault(
        "session-crash",
        "kill -9 of one session: the server ends all and recovers",
        session_crashed,
        "sessions crashed",
    ),
    _fault(
        "connections-exhausted",
        "all connections of PostgreSQL taken by others",
        exhausted,
        "connections refused",
        max_connections="40",
    ),
    _fault("deadlock", "another session locks orders in the opposite order", deadlocked, "deadlocks"),
    _fault(
        "idle-transaction",
        "an idle transaction holds all dead rows",
        idle_transaction,
        "transactions held back",
    ),
]
if Disk.possible():
    FAULTS.append(
        Fault(
            name="disk-full",
            story="PostgreSQL's disk is full for seconds",
            inject=disk_full,
            bites=("writes without space",),
            setup=Setup(postgres_megabytes=500, postgres={"max_wal_size": "64MB", "min_wal_size": "32MB"}),
        )
    )
