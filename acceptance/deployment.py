"""Both services on databases, exchange and queues of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import asyncpg

from acceptance.processes import ServiceProcess
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import Migrate, PostgresServer, fresh_database


@dataclass(slots=True, kw_only=True)
class Deployment:
    """`order` and `processor` are settings; processes are started by the test."""

    name: str
    rabbitmq_url: str
    order_dsn: str
    processor_dsn: str
    folder: Path
    processes: list[ServiceProcess] = field(default_factory=list)

    @property
    def order_queue(self) -> str:
        return f"{self.name}-order.order.processed"

    @property
    def processor_queue(self) -> str:
        return f"{self.name}-processor.order.created"

    async def start_order_service(self, *, ready: bool = True, **settings: str) -> ServiceProcess:
        return await self._start("order-service", self.order_dsn, f"{self.name}-order", settings, ready)

    async def start_processor_service(self, *, ready: bool = True, **settings: str) -> ServiceProcess:
        return await self._start(
            "processor-service", self.processor_dsn, f"{self.name}-processor", settings, ready
        )

    async def _start(
        self, command: str, dsn: str, service_name: str, settings: Mapping[str, str], ready: bool
    ) -> ServiceProcess:
        base = {
            "APP__DB_DSN": dsn,
            "APP__RABBITMQ_URL": self.rabbitmq_url,
            "APP__EXCHANGE": self.name,
            "APP__SERVICE_NAME": service_name,
            "APP__AUTH": "off",
        }
        process = ServiceProcess(
            command, {**base, **settings}, self.folder / f"{command}-{len(self.processes)}.log"
        )
        self.processes.append(process)
        await process.start(ready=ready)
        return process

    async def order_rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        return await _fetch(self.order_dsn, query, *values)

    async def processor_rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        return await _fetch(self.processor_dsn, query, *values)

    async def settled(self, *, seconds: float = 60) -> None:
        """Wait until no order is pending and both outboxes are empty."""

        async def is_settled() -> bool:
            pending = await self.order_rows("SELECT count(*) FROM orders WHERE status = 'pending'")
            ours = await self.order_rows("SELECT count(*) FROM outbox")
            theirs = await self.processor_rows("SELECT count(*) FROM outbox")
            return not any(int(rows[0][0]) for rows in (pending, ours, theirs))

        await eventually(is_settled, within_seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemas:
    """How the databases are brought to a schema, which `name` stands for."""

    name: str
    order: Migrate
    processor: Migrate


NEWEST = Schemas(name="the newest", order=ORDER_MIGRATIONS.upgrade, processor=PROCESSOR_MIGRATIONS.upgrade)


@asynccontextmanager
async def deployment(
    postgres: PostgresServer,
    rabbitmq_url: str,
    name: str,
    folder: Path,
    *,
    cleanup_url: str | None = None,
    schemas: Schemas = NEWEST,
) -> AsyncIterator[Deployment]:
    """Ends its processes, and deletes its databases, queues and exchange (through `cleanup_url`)."""
    async with (
        fresh_database(postgres, f"order-service, {schemas.name}", schemas.order) as order_dsn,
        fresh_database(postgres, f"processor-service, {schemas.name}", schemas.processor) as processor_dsn,
    ):
        deployed = Deployment(
            name=name,
            rabbitmq_url=rabbitmq_url,
            order_dsn=order_dsn,
            processor_dsn=processor_dsn,
            folder=folder,
        )
        try:
            yield deployed
        finally:
            for process in deployed.processes:
                await process.close()
            await _delete_topology(cleanup_url or rabbitmq_url, deployed)


async def _fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


async def _delete_topology(rabbitmq_url: str, deployed: Deployment) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(deployed.order_queue)
        await channel.queue_delete(deployed.processor_queue)
        await channel.exchange_delete(deployed.name)
