"""What a statement costs the client: asyncpg beside psycopg 3 and SQLAlchemy Core.

    python bench/database_access.py [--rounds 9] [--seconds 1] [--dsn postgresql://…]

Measures the two statements that requests run: the insert of a batch of orders with their events, and the
look at one order. One caller, one connection of a pool, prepared statements. In each round every way has its
turn, so that noise meets all of them alike. Prints medians over the rounds, in microseconds of wall time and
of this process's CPU, and the median of the ratios to asyncpg within a round.

psycopg is no dependency of the project: install `psycopg[binary,pool]` into an environment made for this. The
database is made for the run, on the server of `--dsn`, and dropped afterwards.
"""

import argparse
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from itertools import count, islice, repeat
from statistics import median
from typing import Any, Protocol

import sqlalchemy as sa
import uvloop
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from order_service.application.ports import CreateOrder
from order_service.domain.order import Item, new_order
from order_service.infrastructure.events import encode_items, order_created
from order_service.infrastructure.intake import FIND, INSERT_NEW
from order_service.main import MIGRATIONS
from service_kit.postgres.database import Database
from service_kit.testing.postgres_server import LOCAL_DSNS, PostgresServer, fresh_database, postgres_for_tests

BATCH_ORDERS = 100
BATCHES_PER_SECOND_MAX = 300
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Columns = tuple[Any, ...]
"""The arguments of INSERT_NEW: ids, customers, items, amounts, payloads, traceparents, ages; the instance."""


class Way(Protocol):
    async def insert(self, columns: Columns) -> object: ...

    async def find(self, order_id: str) -> object: ...


class Asyncpg:
    """As the service does it: SQL constants, through the kit's pool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, columns: Columns) -> object:
        async with self._database.connection() as connection:
            return await connection.fetch(INSERT_NEW, *columns)

    async def find(self, order_id: str) -> object:
        async with self._database.connection() as connection:
            return (await connection.fetch(FIND, [order_id]))[0]["status"]


class Psycopg:
    """The same constants through psycopg's pool, in autocommit, with the server's own placeholders."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def insert(self, columns: Columns) -> object:
        async with self._pool.connection() as connection:
            return await (await connection.execute(INSERT_NEW, columns, prepare=True)).fetchall()

    async def find(self, order_id: str) -> object:
        async with self._pool.connection() as connection:
            return (await (await connection.execute(FIND, [[order_id]], prepare=True)).fetchall())[0][4]


class SqlAlchemyConstants:
    """The same constants through SQLAlchemy's engine, which stands on asyncpg."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def insert(self, columns: Columns) -> object:
        async with self._engine.connect() as connection:
            return (await connection.exec_driver_sql(INSERT_NEW, columns)).all()

    async def find(self, order_id: str) -> object:
        async with self._engine.connect() as connection:
            return (await connection.exec_driver_sql(FIND, ([order_id],))).one().status


class SqlAlchemyExpressions:
    """What one writes with tables: insert the orders, then the events of those that are new, and commit."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = insert(ORDERS).on_conflict_do_nothing().returning(ORDERS.c.order_id)

    async def insert(self, columns: Columns) -> object:
        names = ("order_id", "customer_id", "items", "amount", "payload", "traceparent")
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns[: len(names)], strict=True)]
        orders = [{name: row[name] for name in names[:4]} for row in rows]
        async with self._engine.begin() as connection:
            created = set((await connection.execute(self._insert, orders)).scalars())
            events = [
                {"event_type": "order.created", "payload": row["payload"], "traceparent": row["traceparent"]}
                for row in rows
                if row["order_id"] in created
            ]
            await connection.execute(sa.insert(OUTBOX), events)
        return created

    async def find(self, order_id: str) -> object:
        async with self._engine.connect() as connection:
            return (await connection.execute(sa.select(ORDERS).filter_by(order_id=order_id))).one().status


_METADATA = sa.MetaData()
ORDERS = sa.Table(
    "orders",
    _METADATA,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("customer_id", sa.Text),
    sa.Column("items", JSONB),
    sa.Column("amount", sa.Numeric),
    sa.Column("status", sa.Text, sa.FetchedValue()),
    sa.Column("version", sa.BigInteger, sa.FetchedValue()),
    sa.Column("fail_reason", sa.Text),
)
OUTBOX = sa.Table(
    "outbox",
    _METADATA,
    sa.Column("event_type", sa.Text),
    sa.Column("payload", JSONB),
    sa.Column("traceparent", sa.Text),
)


@asynccontextmanager
async def all_ways(dsn: str) -> AsyncIterator[Mapping[str, Way]]:
    """Each with a pool of its own. asyncpg is the first; psycopg is there only if it is installed."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(dsn, application_name="bench"))
        pool = await _psycopg_pool(dsn, stack)
        engine = _engine(dsn)
        stack.push_async_callback(engine.dispose)
        yield {
            "asyncpg, SQL constants": Asyncpg(database),
            **({"psycopg 3, SQL constants": Psycopg(pool)} if pool else {}),
            "SQLAlchemy, SQL constants": SqlAlchemyConstants(engine),
            "SQLAlchemy Core, expressions": SqlAlchemyExpressions(engine),
        }


async def _psycopg_pool(dsn: str, stack: AsyncExitStack) -> Any:
    try:
        psycopg, psycopg_pool = import_module("psycopg"), import_module("psycopg_pool")
    except ImportError:
        print("psycopg is left out: not installed")
        return None
    options = {"autocommit": True, "cursor_factory": psycopg.AsyncRawCursor}
    pool = psycopg_pool.AsyncConnectionPool(dsn, min_size=1, max_size=8, kwargs=options, open=False)
    return await stack.enter_async_context(pool)


def _engine(dsn: str) -> AsyncEngine:
    def as_it_is(value: object) -> object:
        """The items are JSON text already, and nobody reads them here."""
        return value

    url = sa.make_url(dsn).set(drivername="postgresql+asyncpg")
    return create_async_engine(url, json_serializer=as_it_is, json_deserializer=as_it_is)


def batches() -> Iterator[Columns]:
    """For ever: the arguments for a hundred new orders of two items."""
    for first in count(0, BATCH_ORDERS):
        commands = [_command(number) for number in range(first, first + BATCH_ORDERS)]
        orders = [command.order for command in commands]
        yield (
            [order.order_id for order in orders],
            [order.customer_id for order in orders],
            [encode_items(order.items).decode() for order in orders],
            [order.total_amount for order in orders],
            [order_created(command).payload.decode() for command in commands],
            [command.traceparent for command in commands],
            [0.0 for _ in commands],
            "bench",
        )


def _command(number: int) -> CreateOrder:
    laptop = Item(sku="laptop", quantity=1, price=Decimal("1200.5"))
    mouse = Item(sku="mouse", quantity=2, price=Decimal(25))
    return CreateOrder(
        order=new_order(f"order-{number:010}", "cust-123", [laptop, mouse]), traceparent=TRACEPARENT
    )


@dataclass
class Cost:
    """Microseconds of one call, one number for each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


async def measure(
    cost: Cost, call: Callable[[Any], Awaitable[object]], arguments: Iterable[Any], seconds: float
) -> None:
    calls, wall, cpu = 0, time.perf_counter(), time.process_time()
    for argument in arguments:
        await call(argument)
        calls += 1
        if time.perf_counter() - wall >= seconds:
            break
    cost.wall.append((time.perf_counter() - wall) / calls * 1e6)
    cost.cpu.append((time.process_time() - cpu) / calls * 1e6)


async def compare(dsn: str, rounds: int, seconds: float) -> None:
    new = batches()
    inserts: dict[str, Cost] = {}
    finds: dict[str, Cost] = {}
    async with all_ways(dsn) as ways:
        for way in ways.values():
            # Not measured: connecting, preparing, filling caches.
            for columns in islice(new, 10):
                await way.insert(columns)
                await way.find(columns[0][0])
        for turn in range(rounds):
            names = list(ways)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                prepared = list(islice(new, max(1, int(seconds * BATCHES_PER_SECOND_MAX))))
                await measure(inserts.setdefault(name, Cost()), ways[name].insert, prepared, seconds)
                known = repeat(prepared[0][0][0])
                await measure(finds.setdefault(name, Cost()), ways[name].find, known, seconds)
        report(f"insert of {BATCH_ORDERS} orders and {BATCH_ORDERS} events", inserts, list(ways))
        report("one order by its id", finds, list(ways))


def report(title: str, costs: Mapping[str, Cost], names: Sequence[str]) -> None:
    base = costs[names[0]]
    print(f"\n{title:<40} {'µs':>8} {'ratio':>6} {'µs CPU':>8} {'ratio':>6}")
    for name in names:
        cost = costs[name]
        wall = f"{median(cost.wall):>8,.0f} {_ratio(cost.wall, base.wall):>6.2f}"
        print(f"{name:<40} {wall} {median(cost.cpu):>8,.0f} {_ratio(cost.cpu, base.cpu):>6.2f}")


def _ratio(values: Sequence[float], base: Sequence[float]) -> float:
    return median(value / other for value, other in zip(values, base, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a statement costs the client.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--dsn", default=LOCAL_DSNS[0], help="a role that may create databases")
    options = parser.parse_args()
    with postgres_for_tests(options.dsn) as server:
        uvloop.run(on_a_fresh_database(server, options.rounds, options.seconds))


async def on_a_fresh_database(server: PostgresServer, rounds: int, seconds: float) -> None:
    async with fresh_database(server, "orders", MIGRATIONS.upgrade) as dsn:
        await compare(dsn, rounds, seconds)


if __name__ == "__main__":
    main()
