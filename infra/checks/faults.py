"""What goes wrong on purpose, and which alerts must then fire."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from infra.checks.system import System


@asynccontextmanager
async def poison(system: System) -> AsyncIterator[None]:
    await system.sql(
        system.order_dsn,
        "INSERT INTO outbox (event_type, payload) VALUES ('order.created', '{\"no\": \"order\"}')",
    )
    yield


@asynccontextmanager
async def an_event_that_nobody_reads(system: System) -> AsyncIterator[None]:
    add = "INSERT INTO outbox (event_type, payload) VALUES ('order.forgotten', '{}')"
    await system.sql(system.order_dsn, add)
    yield
    await system.sql(system.order_dsn, "DELETE FROM outbox WHERE event_type = 'order.forgotten'")


@asynccontextmanager
async def an_order_whose_event_is_lost(system: System) -> AsyncIterator[None]:
    await system.sql(
        system.order_dsn,
        "INSERT INTO orders (order_id, customer_id, items, amount, created_at) VALUES "
        "('lost', 'c', '[{\"sku\": \"mouse\", \"quantity\": 1, \"price\": 1}]', 1, now() - interval '1 h')",
    )
    yield


@asynccontextmanager
async def a_policy_that_is_stuck(system: System) -> AsyncIterator[None]:
    system.stuck.touch()
    releasing = asyncio.get_running_loop().call_later(25, system.stuck.unlink)
    try:
        yield
    finally:
        releasing.cancel()
        system.stuck.unlink(missing_ok=True)


@asynccontextmanager
async def a_table_that_is_locked(system: System) -> AsyncIterator[None]:
    connection = await asyncpg.connect(system.order_dsn)
    readers = [asyncio.create_task(system.api.get("/orders?limit=1")) for _ in range(20)]
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(8)
        yield
    finally:
        await asyncio.gather(*readers, return_exceptions=True)
        await connection.close()


@asynccontextmanager
async def a_database_that_refuses(system: System) -> AsyncIterator[None]:
    name = system.order_dsn.rpartition("/")[2]
    await system.sql(system.server.dsn, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await system.sql(
        system.server.dsn, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    try:
        yield
    finally:
        await system.sql(system.server.dsn, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@asynccontextmanager
async def a_table_that_takes_no_more_rows(system: System) -> AsyncIterator[None]:
    """Somebody's own constraint: no event can be set aside, nor lost, and so the consumer goes no further."""
    await system.sql(
        system.processor_dsn, "ALTER TABLE dead_letter_queue ADD CONSTRAINT is_full CHECK (false) NOT VALID"
    )
    await system.sql(
        system.processor_dsn,
        "INSERT INTO retry_queue (event_key, event_type, body, attempts, last_error, due_at) "
        "VALUES ('by hand', 'order.created', 'no event', 0, '', now())",
    )
    try:
        yield
    finally:
        await system.sql(system.processor_dsn, "ALTER TABLE dead_letter_queue DROP CONSTRAINT is_full")


@asynccontextmanager
async def a_process_that_is_killed(system: System) -> AsyncIterator[None]:
    system.process.send_signal(signal.SIGKILL)
    yield


Fault = Callable[[System], AbstractAsyncContextManager[None]]
# In an order in which none hides the next.
FAULTS: tuple[tuple[Fault, set[str]], ...] = (
    (poison, {"DeadLetters"}),
    (an_order_whose_event_is_lost, {"OrdersReemitted"}),
    (an_event_that_nobody_reads, {"EventsTurnedAway"}),
    (a_policy_that_is_stuck, {"OutboxStuck", "OrdersNotFinishing", "OrdersSlow"}),
    (a_table_that_is_locked, {"DatabasePoolExhausted", "HttpSlow"}),
    (a_database_that_refuses, {"DependencyOutage", "HttpErrors"}),
    (a_table_that_takes_no_more_rows, {"BackgroundServiceDefect"}),
    (a_process_that_is_killed, {"ServiceDown"}),
)
