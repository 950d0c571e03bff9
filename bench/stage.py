"""Fresh databases, an exchange of its own, and one process of each service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aio_pika
import msgspec

from bench import cpu
from bench.load.spec import LoadSpec
from bench.servers import Servers
from chaos.instances import Instance

READY_SECONDS_MAX = 60.0
CLOSED_PORT = "amqp://guest:guest@127.0.0.1:9/"
"""Where no broker answers: nobody listens on the port of the discard protocol."""


@dataclass(slots=True, kw_only=True)
class Stage:
    servers: Servers
    name: str
    orders_dsn: str
    processor_dsn: str
    settings: Mapping[str, str]
    order: Instance
    processor: Instance

    async def start(self, *instances: Instance) -> None:
        """Raises RuntimeError with the end of the log when one does not get ready."""
        for instance in instances:
            instance.start()
        for instance in instances:
            if not await instance.ready(READY_SECONDS_MAX):
                words = instance.log.read_text(errors="replace")[-1000:]
                raise RuntimeError(f"{instance.command} does not get ready: {words}")

    async def listening(self, instance: Instance) -> None:
        """Of a service whose broker is away, which is never ready."""
        instance.start()
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not _is_migrated(await instance.problems()):
                await asyncio.sleep(0.05)

    def usage(self) -> cpu.Usage:
        pids = {
            part: instance.process.pid
            for part, instance in ((cpu.ORDER, self.order), (cpu.PROCESSOR, self.processor))
            if instance.process
        }
        return cpu.usage(
            services=pids,
            postgres_pid=self.servers.postgres_pid,
            rabbitmq_pid=self.servers.rabbitmq_pid,
        )

    def spec(self, **fields: object) -> LoadSpec:
        return LoadSpec(port=self.order.port, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def stage(
    servers: Servers, *, broker_away: bool = False, settings: Mapping[str, str] = {}
) -> AsyncIterator[Stage]:
    """Nothing is started yet. Everything ends and disappears with it."""
    async with AsyncExitStack() as stack:
        orders_dsn = await stack.enter_async_context(servers.database("orders"))
        processor_dsn = await stack.enter_async_context(servers.database("processor"))
        name = servers.new_name()
        shared = {
            "APP__RABBITMQ_URL": CLOSED_PORT if broker_away else servers.rabbitmq_url,
            "APP__EXCHANGE": name,
            "APP__LOG_LEVEL": "WARNING",
            "APP__AUTH": "off",
            **settings,
        }
        logs = servers.folder / "logs"
        logs.mkdir(exist_ok=True)
        stack.push_async_callback(_delete_topology, servers.rabbitmq_url, name)
        made = [
            Instance(
                f"{command}-{name}",
                command,
                {**shared, "APP__DB_DSN": dsn, "APP__SERVICE_NAME": f"{name}-{command}"},
                logs,
            )
            for command, dsn in ((cpu.ORDER, orders_dsn), (cpu.PROCESSOR, processor_dsn))
        ]
        for instance in made:
            stack.push_async_callback(instance.close)
        yield Stage(
            servers=servers,
            name=name,
            orders_dsn=orders_dsn,
            processor_dsn=processor_dsn,
            settings=shared,
            order=made[0],
            processor=made[1],
        )


def _is_migrated(answer: str) -> bool:
    try:
        return bool(msgspec.json.decode(answer)["checks"]["migrations"]["ok"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return False


async def _delete_topology(url: str, name: str) -> None:
    async with await aio_pika.connect(url, timeout=10) as connection:
        channel = await connection.channel()
        for queue in ("order-service.order.processed", "processor-service.order.created"):
            await channel.queue_delete(f"{name}-{queue}")
        await channel.exchange_delete(name)
