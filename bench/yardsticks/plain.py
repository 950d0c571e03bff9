"""The plain implementation under the same load generator, with a usual and with a short poll interval."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aio_pika
from asyncpg import Connection

from acceptance.http_client import request
from bench.generator import load, module_environment
from bench.load.spec import LoadSpec
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.servers import connected
from bench.watch import pending
from chaos import programs

POLL_SECONDS = (5.0, 0.05)
_BACKLOG_SECONDS = 3.0
_FIRST_SECONDS_MAX = 40.0


async def run(bench: Bench) -> Figures:
    return {f"{poll:g}": await _measured(bench, poll) for poll in POLL_SECONDS}


async def _measured(bench: Bench, poll_seconds: float) -> Figures:
    """Accepted in a second while clients send, and final in a second of what then waits."""
    async with _services(bench, poll_seconds) as (port, connection):
        bench.tell(f"plain implementation, polling each {poll_seconds:g} s: accepting")
        spec = LoadSpec(port=port, connections=64, seconds=_BACKLOG_SECONDS, prefix="plain")
        accepted = await load(spec)
        bench.tell(f"plain implementation, polling each {poll_seconds:g} s: finishing")
        return {"accepted_rate": accepted.rate, "rate": await _finishing(bench, connection)}


async def _finishing(bench: Bench, connection: Connection) -> float:
    clock = asyncio.get_running_loop().time
    at_first = await pending(connection)
    async with asyncio.timeout(_FIRST_SECONDS_MAX):
        while (begin := await pending(connection)) == at_first:
            await asyncio.sleep(0.05)
    begun_at = clock()
    while (left := await pending(connection)) and clock() - begun_at < bench.lengths.plain_seconds:
        await asyncio.sleep(0.1)
    return (begin - left) / (clock() - begun_at)


@asynccontextmanager
async def _services(bench: Bench, poll_seconds: float) -> AsyncIterator[tuple[int, Connection]]:
    servers, port, exchange = bench.servers, programs.free_port(), bench.servers.new_name()
    async with AsyncExitStack() as stack:
        orders = await stack.enter_async_context(servers.database("orders", template=False))
        processor = await stack.enter_async_context(servers.database("processor", template=False))
        connection = await stack.enter_async_context(connected(orders))
        stack.push_async_callback(_delete, servers.rabbitmq_url, exchange)
        for name, dsn in (("processor", processor), ("orders", orders)):
            process = await programs.launch(
                sys.executable,
                "-m",
                f"bench.plain.{name}",
                environment=module_environment()
                | {"DSN": dsn, "URL": servers.rabbitmq_url, "EXCHANGE": exchange, "PORT": str(port)}
                | {"POLL_SECONDS": str(poll_seconds)},
                log=servers.folder / f"plain-{name}.log",
            )
            stack.push_async_callback(programs.end, process, signal.SIGKILL, within_seconds=5)
        async with asyncio.timeout(30):
            while not await _answers(port):
                await asyncio.sleep(0.1)
        yield port, connection


async def _answers(port: int) -> bool:
    try:
        return (await request("GET", f"http://127.0.0.1:{port}/ready")).status == 200
    except (OSError, EOFError):
        return False


async def _delete(url: str, exchange: str) -> None:
    async with await aio_pika.connect(url, timeout=10) as connection:
        channel = await connection.channel()
        for key in ("order.created", "order.processed"):
            await channel.queue_delete(f"{exchange}-{key}")
        await channel.exchange_delete(exchange)


SCENARIO = Scenario(
    name="plain",
    story="yardstick of the whole path: a plain implementation (bench/plain)",
    run=run,
    seconds=lambda lengths: 2 * (lengths.plain_seconds + 9),
)
