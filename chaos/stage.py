"""Everything of one run, started: servers, proxies, two processes of each service, load, bystander."""

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncpg

from chaos import audit, programs
from chaos.bystander import Bystander
from chaos.disk import Disk
from chaos.instances import Instance
from chaos.load import Load
from chaos.poison import Poisoner
from chaos.postgres import APP_ROLE, Postgres
from chaos.proxy import Proxy
from chaos.rabbitmq import RabbitMQ
from chaos.setup import Setup
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS

Side = Literal["order", "processor"]
SIDES: tuple[Side, ...] = ("order", "processor")
ORDER_QUEUE = "order-service.order.processed"
PROCESSOR_QUEUE = "processor-service.order.created"
_READY_SECONDS_MAX = 60.0
_OFF, _SOON = "86400", "3"


@dataclass(slots=True, kw_only=True)
class Stage:
    """`evidence` counts what faults saw of their own effect. `seconds`: how long they are at it."""

    seconds: float
    setup: Setup
    disk: Disk
    postgres: Postgres
    rabbitmq: RabbitMQ
    databases: dict[str, Proxy]
    brokers: dict[str, Proxy]
    doors: list[Proxy]
    orders: list[Instance]
    processors: list[Instance]
    load: Load
    bystander: Bystander
    poisoner: Poisoner
    evidence: Counter[str] = field(default_factory=Counter)

    @property
    def instances(self) -> list[Instance]:
        return [*self.orders, *self.processors]

    @property
    def proxies(self) -> list[Proxy]:
        """Between services and servers; the clients come through `doors`."""
        return [*self.databases.values(), *self.brokers.values()]

    def of(self, side: Side) -> list[Instance]:
        return self.orders if side == "order" else self.processors

    @asynccontextmanager
    async def paused(self, instances: Sequence[Instance]) -> AsyncIterator[None]:
        """Let `instances` stand still."""
        for instance in instances:
            instance.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for instance in instances:
                instance.signal(signal.SIGCONT)

    @asynccontextmanager
    async def database(self, name: str) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection, not through a proxy."""
        connection = await asyncpg.connect(self.postgres.dsn(name), timeout=10)
        try:
            yield connection
        finally:
            connection.terminate()

    @property
    def loses_messages(self) -> bool:
        return self.setup.loses_messages

    async def queue_lengths(self) -> dict[str, int]:
        return await self.rabbitmq.queue_lengths()

    def broker_connections(self, side: Side) -> int:
        return len(self.brokers["orders" if side == "order" else "processor"].links)

    async def all_ready(self, within_seconds: float) -> bool:
        return all(await asyncio.gather(*(instance.ready(within_seconds) for instance in self.instances)))


@asynccontextmanager
async def stage(setup: Setup, *, seed: int, seconds: float) -> AsyncIterator[Stage]:
    """A stage whose services are ready; everything ends and disappears with it."""
    async with AsyncExitStack() as stack:
        stack.callback(programs.bury_orphans)
        folder = stack.enter_context(_folder())
        disk = stack.enter_context(Disk(folder / "postgres", setup.postgres_megabytes))
        postgres, rabbitmq = await _servers(folder, setup, stack)
        databases = {name: await _proxy(postgres.port, stack) for name in ("orders", "processor")}
        brokers = {name: await _proxy(rabbitmq.port, stack) for name in ("orders", "processor")}
        dsns = {name: postgres.dsn(name, role=APP_ROLE, port=proxy.port) for name, proxy in databases.items()}
        urls = {name: rabbitmq.url_through(proxy.port) for name, proxy in brokers.items()}
        orders = _instances("order-service", dsns["orders"], urls["orders"], setup, folder / "logs")
        processors = _instances(
            "processor-service", dsns["processor"], urls["processor"], setup, folder / "logs"
        )
        doors = [await _proxy(instance.port, stack) for instance in orders]
        bystander = Bystander(rabbitmq.url)
        built = Stage(
            seconds=seconds,
            setup=setup,
            disk=disk,
            postgres=postgres,
            rabbitmq=rabbitmq,
            databases=databases,
            brokers=brokers,
            doors=doors,
            orders=orders,
            processors=processors,
            load=Load(
                [f"http://127.0.0.1:{door.port}" for door in doors], per_second=setup.per_second, seed=seed
            ),
            bystander=bystander,
            poisoner=Poisoner(bystander, seed),
        )
        await bystander.start()
        stack.push_async_callback(bystander.close)
        stack.push_async_callback(_close_all, built.instances)
        for instance in built.instances:
            instance.start()
        if not await built.all_ready(_READY_SECONDS_MAX):
            raise RuntimeError("the services do not get ready: " + _last_words(built))
        yield built


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        for part in ("postgres", "rabbitmq", "logs"):
            (folder / part).mkdir()
        yield folder


async def _servers(folder: Path, setup: Setup, stack: AsyncExitStack) -> tuple[Postgres, RabbitMQ]:
    postgres = Postgres(folder / "postgres", setup.postgres)
    rabbitmq = RabbitMQ(folder / "rabbitmq", settings=setup.rabbitmq, terms=setup.rabbitmq_terms)
    stack.push_async_callback(postgres.end, signal.SIGQUIT)
    stack.push_async_callback(rabbitmq.close)
    async with asyncio.TaskGroup() as group:
        group.create_task(rabbitmq.create())
        group.create_task(_prepared(postgres))
    return postgres, rabbitmq


async def _prepared(postgres: Postgres) -> None:
    await postgres.create()
    for name, migrations in (("orders", ORDER_MIGRATIONS), ("processor", PROCESSOR_MIGRATIONS)):
        await postgres.create_database(name)
        await migrations.upgrade(postgres.dsn(name, role=APP_ROLE))
        await audit.install(postgres.dsn(name), name)


async def _proxy(target_port: int, stack: AsyncExitStack) -> Proxy:
    proxy = Proxy(target_port)
    await proxy.open()
    stack.push_async_callback(proxy.close)
    return proxy


def _instances(command: str, dsn: str, url: str, setup: Setup, folder: Path) -> list[Instance]:
    is_order = command == "order-service"
    settings = {
        "APP__DB_DSN": dsn,
        "APP__RABBITMQ_URL": url,
        "APP__AUTH": "off",
        # A decision that is made twice would differ in half of the cases, and be seen.
        **({"APP__RECONCILE_AFTER_SECONDS": _SOON if setup.loses_messages else _OFF} if is_order else {}),
        **({} if is_order else {"APP__SUCCESS_RATE": "0.5"}),
        **(setup.order if is_order else setup.processor),
    }
    first = {**settings, **(setup.order_first if is_order else setup.processor_first)}
    return [
        Instance(f"{command}-1", command, first, folder),
        Instance(f"{command}-2", command, settings, folder),
    ]


async def _close_all(instances: Sequence[Instance]) -> None:
    await asyncio.gather(*(instance.close() for instance in instances))


def _last_words(built: Stage) -> str:
    return " / ".join(instance.log.read_text(errors="replace")[-500:] for instance in built.instances)
