"""The project's own broker client in a bare loop: what RabbitMQ and it can do, with nothing behind."""

import asyncio
import sys

import aio_pika
import msgspec

from bench import cpu
from bench.generator import ROOT, module_environment
from bench.scenarios.scenario import Bench, Figures, Scenario


async def run(bench: Bench) -> Figures:
    exchange, messages = bench.servers.new_name(), bench.lengths.loop_messages
    before = _broker_seconds(bench)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.yardsticks.broker_process", bench.servers.rabbitmq_url, exchange, str(messages)),
        cwd=ROOT,
        env=module_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await _delete(bench.servers.rabbitmq_url, exchange)
    spent = _broker_seconds(bench) - before
    figures: Figures = msgspec.json.decode(output.splitlines()[-1])
    return {**figures, "broker_us": 1e6 * spent / (2 * messages)}


def _broker_seconds(bench: Bench) -> float:
    usage = cpu.usage(services={}, postgres_pid=None, rabbitmq_pid=bench.servers.rabbitmq_pid)
    return sum(usage.seconds.values())


async def _delete(url: str, exchange: str) -> None:
    async with await aio_pika.connect(url, timeout=10) as connection:
        channel = await connection.channel()
        await channel.queue_delete(f"{exchange}-queue")
        await channel.exchange_delete(exchange)


SCENARIO = Scenario(
    name="broker",
    story="yardstick of the events: the project's own broker client in a bare loop",
    run=run,
    seconds=lambda lengths: 2 + 3 * lengths.loop_messages / 20_000,
)
