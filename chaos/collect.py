"""Waits until a stage has settled, and writes down what is there to be judged."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Literal, Protocol

import aio_pika
import asyncpg
import psutil

from chaos import audit
from chaos.bystander import Bystander
from chaos.instances import Instance
from chaos.load import Load
from chaos.observed import Change, Level, Observed
from chaos.poison import Poison, Poisoner

Side = Literal["order", "processor"]


class Watched(Protocol):
    """What is asked of a stage, be its servers single or clusters."""

    load: Load
    poisoner: Poisoner
    bystander: Bystander
    orders: list[Instance]
    processors: list[Instance]

    @property
    def instances(self) -> list[Instance]: ...

    @property
    def loses_messages(self) -> bool: ...

    def database(self, name: str) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A superuser's connection to the server that takes writes."""
        ...

    async def queue_lengths(self) -> dict[str, int]: ...

    def broker_connections(self, side: Side) -> int:
        """Of both processes of a service."""
        ...

    async def all_ready(self, within_seconds: float) -> bool: ...


_IN_ORDER = {"killed", "terminated", "failpoint", "terminated before it listened"}
_DEAD = "SELECT original_event_type, body FROM dead_letter_queue"
_LEFT = {
    "orders": {
        "pending orders": "SELECT count(*) FROM orders WHERE status = 'pending'",
        "order-service's outbox": "SELECT count(*) FROM outbox",
        "order-service's retry queue": "SELECT count(*) FROM retry_queue",
    },
    "processor": {
        "processor-service's outbox": "SELECT count(*) FROM outbox",
        "processor-service's retry queue": "SELECT count(*) FROM retry_queue",
    },
}
_UNAVAILABLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    *aio_pika.exceptions.CONNECTION_EXCEPTIONS,
)


async def settled(stage: Watched, *, within_seconds: float) -> bool:
    """Wait until all is ready, nothing waits anywhere and all poison is set aside; False when it does not."""
    try:
        async with asyncio.timeout(within_seconds):
            while not await _is_settled(stage):
                await asyncio.sleep(0.2)
            return await stage.all_ready(within_seconds)
    except TimeoutError:
        return False


async def _is_settled(stage: Watched) -> bool:
    with suppress(*_UNAVAILABLE):
        if any((await left(stage)).values()):
            return False
        return stage.loses_messages or len(await _dead_letters(stage)) >= len(stage.poisoner.sent)
    return False


async def left(stage: Watched) -> dict[str, int]:
    """Rows and messages that wait, also those delivered and not acknowledged."""
    counts: dict[str, int] = {}
    for name, queries in _LEFT.items():
        async with stage.database(name) as connection:
            counts |= {place: await connection.fetchval(query) for place, query in queries.items()}
    if not any(counts.values()):  # this question is dear
        counts |= {f"queue {name}": messages for name, messages in (await stage.queue_lengths()).items()}
    return counts


async def observed(stage: Watched, before: dict[str, Level], *, is_settled: bool) -> Observed:
    async with stage.database("orders") as connection:
        orders = await connection.fetch(
            "SELECT order_id, customer_id, status, version, fail_reason FROM orders"
        )
        order_changes = await _changes(connection)
    async with stage.database("processor") as connection:
        states = await connection.fetch(
            "SELECT order_id, status, version, fail_reason FROM processing_states"
        )
        processor_changes = await _changes(connection)
    ended = sum((instance.ended for instance in stage.instances), start=Counter[str]())
    return Observed(
        answers=stage.load.answers,
        orders={row["order_id"]: dict(row) for row in orders},
        states={row["order_id"]: dict(row) for row in states},
        order_changes=order_changes,
        processor_changes=processor_changes,
        left=await left(stage),
        dead=await _dead_letters(stage),
        poison=stage.poisoner.sent,
        seen=stage.bystander.seen,
        loses_messages=stage.loses_messages,
        before=before,
        after=await levels(stage),
        ended=Counter({how: count for how, count in ended.items() if how not in _IN_ORDER}),
        settled=is_settled,
    )


async def levels(stage: Watched) -> dict[str, Level]:
    """Of each service now."""
    return {
        "order-service": await _level(stage, stage.orders),
        "processor-service": await _level(stage, stage.processors),
    }


async def _level(stage: Watched, instances: Sequence[Instance]) -> Level:
    name = instances[0].command
    processes = [process for instance in instances if (process := instance.process)]
    async with stage.database("postgres") as connection:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name
        )
    return Level(
        megabytes=max((_megabytes(process) for process in processes), default=0.0),
        database_connections=count,
        broker_connections=stage.broker_connections("order" if name == "order-service" else "processor"),
        files=max((process.num_fds() for process in processes), default=0),
    )


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1_048_576


async def _changes(connection: asyncpg.Connection) -> list[Change]:
    return [
        Change(
            relation=row["relation"],
            operation=row["operation"],
            old=json.loads(row["old"]) if row["old"] else None,
            new=json.loads(row["new"]) if row["new"] else None,
        )
        for row in await connection.fetch(audit.CHANGES)
    ]


async def _dead_letters(stage: Watched) -> list[Poison]:
    found: list[Poison] = []
    for name in ("orders", "processor"):
        async with stage.database(name) as connection:
            found += [(row[0], row[1]) for row in await connection.fetch(_DEAD)]
    return found
