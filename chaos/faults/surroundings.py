"""What changes around running services: the schema, the clock, how soon the reconciler looks."""

import asyncio
from pathlib import Path
from random import Random

import asyncpg

from chaos.faults.fault import Fault
from chaos.setup import Setup
from chaos.stage import Stage

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
_TABLES = {"orders": ("orders", "outbox", "processed_inbox"), "processor": ("processing_states", "outbox")}


async def schema_expanded(stage: Stage, random: Random) -> None:
    """The next release's migration adds a column to tables that this release works on, and takes it back."""
    for name, tables in _TABLES.items():
        async with stage.database(name) as connection:
            await connection.execute("SET lock_timeout = '2s'")
            for change in ("ADD COLUMN IF NOT EXISTS chaos_next int", "DROP COLUMN IF EXISTS chaos_next"):
                for table in tables:
                    await _change(connection, f"ALTER TABLE {table} {change}", stage)
                await asyncio.sleep(random.uniform(0.5, 1.5))


async def _change(connection: asyncpg.Connection, statement: str, stage: Stage) -> None:
    try:
        await connection.execute(statement)
        stage.evidence["tables changed"] += 1
    except asyncpg.LockNotAvailableError:
        stage.evidence["lock timeouts"] += 1


async def clock_off(stage: Stage, random: Random) -> None:
    """Nothing is done: the clock was off from the start. It is only looked at."""
    await asyncio.sleep(0.3 * stage.seconds)
    stage.evidence["processes an hour off"] = sum(
        abs(instance.clock_skew_seconds()) > 3000 for instance in stage.instances
    )


async def eager_reconciler(stage: Stage, random: Random) -> None:
    """The processors stand still, and orders that are only waiting for them are told of again."""
    async with stage.paused(stage.processors):
        await asyncio.sleep(2)


def _faketime(offset: str) -> dict[str, str]:
    found = next((str(file) for pattern in _LIBRARIES for file in Path("/").glob(pattern[1:])), None)
    return {"LD_PRELOAD": found, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"} if found else {}


FAULTS = [
    Fault(
        name="schema-expanded",
        story="columns added to and dropped from the tables in use",
        inject=schema_expanded,
        bites=("tables changed",),
        pause_seconds=1.0,
    ),
    Fault(
        name="eager-reconciler",
        story="orders sent again after 0.2 s, while the processors stand still and then all at once",
        inject=eager_reconciler,
        bites=("pending_orders_reemitted",),
        setup=Setup(order={"APP__RECONCILE_AFTER_SECONDS": "0.2"}),
    ),
]
if ahead := _faketime("+1h"):
    FAULTS += [
        Fault(
            name="clock-ahead",
            story="the clock of order-service goes an hour ahead",
            inject=clock_off,
            bites=("processes an hour off",),
            setup=Setup(order=ahead),
        ),
        Fault(
            name="clock-behind",
            story="the clock of one of the two processor-services is an hour late",
            inject=clock_off,
            bites=("processes an hour off",),
            setup=Setup(processor_first=_faketime("-1h")),
        ),
    ]
