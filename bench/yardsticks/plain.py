"""The plain implementation under the same load generator, with a usual and with a short poll interval."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aio_pika
from asyncpg import Connection

from acceptance.http_client import request
from bench.generator import Generator, load, module_environment
from bench.load.spec import LoadSpec
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.servers import connected
from bench.watch import pending
from chaos import programs

POLL_SECONDS = (5.0, 0.05)
_INTAKE_SECONDS = 3.0
_FIRST_SECONDS_MAX = 40.0
_LOOK_SECONDS = 0.1
_WINDOW_POLLS = 1.5
_FINAL = "SELECT count(*) FROM orders WHERE status <> 'pending'"


async def run(bench: Bench) -> Figures:
    return {f"{poll:g}": await _measured(bench, poll) for poll in POLL_SECONDS}


async def _measured(bench: Bench, poll_seconds: float) -> Figures:
    """`rate`: final in a second while as many are posted as become final, so that the backlog does not grow;
    `drain_rate`: of the backlog alone, while nothing is posted."""

    def tell(what: str) -> None:
        bench.tell(f"plain implementation, polling each {poll_seconds:g} s: {what}")

    seconds = _window_seconds(bench.lengths, poll_seconds)
    async with _services(bench, poll_seconds) as (port, connection):
        tell("accepting")
        accepted = await load(LoadSpec(port=port, connections=64, seconds=_INTAKE_SECONDS, prefix="plain"))
        await _first_final(connection)
        tell("as many as become final")
        rate = await _held(connection, port, seconds)
        tell("draining")
        return {
            "accepted_rate": accepted.rate,
            "rate": rate,
            "drain_rate": await _drained(connection, seconds),
        }


def _window_seconds(lengths: Lengths, poll_seconds: float) -> float:
    """Longer than a poll, as orders become final in bursts, one after each."""
    return max(lengths.plain_seconds, _WINDOW_POLLS * poll_seconds)


async def _first_final(connection: Connection) -> None:
    at_first = await _final(connection)
    async with asyncio.timeout(_FIRST_SECONDS_MAX):
        while await _final(connection) == at_first:
            await asyncio.sleep(0.05)


async def _held(connection: Connection, port: int, seconds: float) -> float:
    clock = asyncio.get_running_loop().time
    spec = LoadSpec(port=port, connections=64, seconds=seconds, prefix="held", warm_seconds=0, allowance=0)
    async with Generator(spec) as generator:
        begin, begun_at = await _final(connection), clock()
        while not await generator.stops_within(_LOOK_SECONDS):
            generator.allow(await _final(connection) - begin)
        await generator.result()
        return (await _final(connection) - begin) / (clock() - begun_at)


async def _drained(connection: Connection, seconds: float) -> float:
    clock = asyncio.get_running_loop().time
    begin, begun_at = await _final(connection), clock()
    while await pending(connection) and clock() - begun_at < seconds:
        await asyncio.sleep(_LOOK_SECONDS)
    return (await _final(connection) - begin) / (clock() - begun_at)


async def _final(connection: Connection) -> int:
    return int(await connection.fetchval(_FINAL))


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
    seconds=lambda lengths: sum(9 + 2 * _window_seconds(lengths, poll) for poll in POLL_SECONDS),
)
