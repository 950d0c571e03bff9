"""Everything of the test, started: both clusters, two processes of each service, load, poison, bystander."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil

from chaos import audit, programs
from chaos.bystander import Bystander
from chaos.instances import Instance
from chaos.load import Load
from chaos.observed import Level
from chaos.poison import Poisoner
from chaos.stage import SIDES, Side
from cluster.postgres import ReplicatedPostgres
from cluster.rabbitmq import RabbitCluster
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS

_READY_SECONDS_MAX = 60.0
_MIGRATIONS = {"orders": ORDER_MIGRATIONS, "processor": PROCESSOR_MIGRATIONS}


@dataclass(slots=True, kw_only=True)
class Stage:
    """`before`: the services' levels when they were warm."""

    rabbitmq: RabbitCluster
    postgres: ReplicatedPostgres
    orders: list[Instance]
    processors: list[Instance]
    load: Load
    bystander: Bystander
    poisoner: Poisoner
    logs: Path
    before: dict[str, Level] = field(default_factory=dict)
    loses_messages: bool = False

    @property
    def instances(self) -> list[Instance]:
        return [*self.orders, *self.processors]

    def of(self, side: Side) -> list[Instance]:
        return self.orders if side == "order" else self.processors

    def another(self, side: Side) -> Instance:
        """A process of a service, not started yet."""
        return _instance(side, self.postgres, self.rabbitmq, self.logs)

    @asynccontextmanager
    async def database(self, name: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.postgres.primary.dsn(name), timeout=10)
        try:
            yield connection
        finally:
            connection.terminate()

    async def queue_lengths(self) -> dict[str, int]:
        return await self.rabbitmq.queue_lengths()

    def broker_connections(self, side: Side) -> int:
        return sum(_connections(instance, self.rabbitmq.ports) for instance in self.of(side))

    async def all_ready(self, within_seconds: float) -> bool:
        return all(await asyncio.gather(*(instance.ready(within_seconds) for instance in self.instances)))


@asynccontextmanager
async def stage(*, per_second: float, seed: int) -> AsyncIterator[Stage]:
    """A stage whose services are ready; everything ends and disappears with it."""
    async with AsyncExitStack() as stack:
        stack.callback(programs.bury_orphans)
        folder = stack.enter_context(_folder())
        postgres, rabbitmq = ReplicatedPostgres(folder), RabbitCluster(folder)
        stack.push_async_callback(postgres.close)
        stack.push_async_callback(rabbitmq.close)
        async with asyncio.TaskGroup() as group:
            group.create_task(rabbitmq.create())
            group.create_task(_prepared(postgres))
        bystander = Bystander(*rabbitmq.urls, queue_type="quorum")
        await bystander.start()
        stack.push_async_callback(bystander.close)
        sides = {
            side: [_instance(side, postgres, rabbitmq, folder / "logs") for _ in range(2)] for side in SIDES
        }
        built = Stage(
            rabbitmq=rabbitmq,
            postgres=postgres,
            orders=sides["order"],
            processors=sides["processor"],
            load=Load([instance.url for instance in sides["order"]], per_second=per_second, seed=seed),
            bystander=bystander,
            poisoner=Poisoner(bystander, seed),
            logs=folder / "logs",
        )
        stack.push_async_callback(_close_all, built)
        for instance in built.instances:
            instance.start()
        if not await built.all_ready(_READY_SECONDS_MAX):
            raise RuntimeError("the services do not get ready: " + _last_words(built))
        yield built


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        (folder / "logs").mkdir()
        yield folder


async def _prepared(postgres: ReplicatedPostgres) -> None:
    await postgres.create(list(_MIGRATIONS))
    for name, migrations in _MIGRATIONS.items():
        await migrations.upgrade(postgres.dsn(name))
        await audit.install(postgres.primary.dsn(name), name)


def _instance(side: Side, postgres: ReplicatedPostgres, rabbitmq: RabbitCluster, logs: Path) -> Instance:
    is_order = side == "order"
    command = f"{side}-service"
    settings = {
        "APP__DB_DSN": postgres.dsn("orders" if is_order else "processor"),
        "APP__RABBITMQ_URL": rabbitmq.url,
        "APP__QUEUE_TYPE": "quorum",
        "APP__AUTH": "off",
        # Nothing here may need the reconciler; and a decision that is made twice would be seen.
        **({"APP__RECONCILE_AFTER_SECONDS": "86400"} if is_order else {"APP__SUCCESS_RATE": "0.5"}),
    }
    number = len(list(logs.glob(f"{command}-*.log"))) + 1
    log = logs / f"{command}-{number}.log"
    log.touch()
    return Instance(log.stem, command, settings, logs)


def _connections(instance: Instance, ports: set[int]) -> int:
    if (process := instance.process) is None:
        return 0
    with suppress(psutil.NoSuchProcess):
        return sum(
            link.status == psutil.CONN_ESTABLISHED and bool(link.raddr) and link.raddr.port in ports
            for link in process.net_connections("tcp")
        )
    return 0


async def _close_all(built: Stage) -> None:
    await asyncio.gather(*(instance.close() for instance in built.instances))


def _last_words(built: Stage) -> str:
    return " / ".join(instance.log.read_text(errors="replace")[-500:] for instance in built.instances)
