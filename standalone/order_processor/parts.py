"""What the services stand on: given servers where they are set, embedded ones otherwise."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from order_processor.embedded_postgres import EmbeddedPostgres
from order_processor.screen import Screen
from service_kit.broker import Broker
from service_kit.errors import StartupError
from service_kit.event_flow import rabbit_broker
from service_kit.inprocess.broker import InProcessBroker
from service_kit.settings import Settings

ORDER_DB_DSN, PROCESSOR_DB_DSN, RABBITMQ_URL = (
    "APP__ORDER_DB_DSN",
    "APP__PROCESSOR_DB_DSN",
    "APP__RABBITMQ_URL",
)
"""Each that is set is used instead of the embedded part."""

_WATCH_SECONDS = 0.5
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddresses:
    """`data_dir` is where embedded data are kept; None when there are none, or they are `thrown_away`."""

    order: str
    processor: str
    data_dir: Path | None
    thrown_away: bool = False


@asynccontextmanager
async def databases(
    environ: Mapping[str, str], data_dir: Path | None, screen: Screen
) -> AsyncIterator[DatabaseAddresses]:
    """Both databases; `data_dir` None means data that are thrown away at the end. Raises StartupError."""
    order, processor = environ.get(ORDER_DB_DSN), environ.get(PROCESSOR_DB_DSN)
    if order and processor:
        yield DatabaseAddresses(order=order, processor=processor, data_dir=None)
        return
    async with AsyncExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="order-processor-")))
        postgres = await stack.enter_async_context(_running(EmbeddedPostgres(folder), screen))
        own_order = await asyncio.to_thread(postgres.ensure_database, "orders")
        own_processor = await asyncio.to_thread(postgres.ensure_database, "processor")
        yield DatabaseAddresses(
            order=order or own_order,
            processor=processor or own_processor,
            data_dir=data_dir,
            thrown_away=data_dir is None,
        )


@asynccontextmanager
async def _running(postgres: EmbeddedPostgres, screen: Screen) -> AsyncIterator[EmbeddedPostgres]:
    """The server, started again should it end by itself."""
    try:
        with screen.step("starting the embedded PostgreSQL"):
            await _to_its_end(postgres.start)
        watch = asyncio.create_task(_watch(postgres))
        try:
            yield postgres
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    finally:
        await _to_its_end(postgres.stop)


async def _to_its_end(blocking: Callable[[], None]) -> None:
    """Run in a thread; a cancelled caller waits for its end too, so that start and stop never overlap."""
    running = asyncio.ensure_future(asyncio.to_thread(blocking))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


async def _watch(postgres: EmbeddedPostgres) -> None:
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if not postgres.running:
            log.error("embedded_postgres_ended")
            try:
                await asyncio.to_thread(postgres.start)
            except StartupError as error:
                log.error("embedded_postgres_not_restarted", reason=str(error))


@asynccontextmanager
async def brokers(
    environ: Mapping[str, str], order: Settings, processor: Settings
) -> AsyncIterator[tuple[Broker, Broker]]:
    """A broker for each service: one in this process for both, or a connection to RabbitMQ for each."""
    async with AsyncExitStack() as stack:
        if environ.get(RABBITMQ_URL):
            yield (
                await stack.enter_async_context(rabbit_broker(order)),
                await stack.enter_async_context(rabbit_broker(processor)),
            )
        else:
            broker = await stack.enter_async_context(InProcessBroker())
            yield broker, broker
