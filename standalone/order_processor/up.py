"""`order-processor up`: both services in one process."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from order_processor.parts import ORDER_DB_DSN, PROCESSOR_DB_DSN, DatabaseAddresses, brokers, databases
from order_processor.samples import SAMPLES, submit
from order_processor.screen import Screen
from order_service.main import order_service
from order_service.settings import OrderSettings
from processor_service.main import processor_service
from processor_service.settings import ProcessorSettings
from service_kit.errors import StartupError
from service_kit.service import Service, serve_until_stopped
from service_kit.settings import S, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """`data_dir` None: the embedded data are thrown away at the end."""

    order_port: int
    processor_port: int
    data_dir: Path | None


async def up(options: UpOptions, environ: Mapping[str, str], screen: Screen) -> None:
    """Serve until SIGINT or SIGTERM. Raises StartupError."""
    try:
        await _up(options, environ, screen)
    except StartupError as error:
        options_here = str(error).replace("APP__PORT", "--order-port or --processor-port")
        raise StartupError(options_here, exit_code=error.exit_code) from error


async def _up(options: UpOptions, environ: Mapping[str, str], screen: Screen) -> None:
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(databases(environ, options.data_dir, screen))
        order_settings = _settings(OrderSettings, environ, addresses.order, options.order_port, screen)
        processor_settings = _settings(
            ProcessorSettings, environ, addresses.processor, options.processor_port, screen
        )
        order_broker, processor_broker = await stack.enter_async_context(
            brokers(environ, order_settings, processor_settings)
        )
        order = Service("order-service", order_service(order_settings, order_broker))
        processor = Service("processor-service", processor_service(processor_settings, processor_broker))
        await serve_until_stopped(
            order, processor, meanwhile=lambda: _show(order, processor, addresses, screen)
        )
    screen.stopped()


def _settings(kind: type[S], environ: Mapping[str, str], dsn: str, port: int, screen: Screen) -> S:
    """A service's settings: those of the environment, but its own database and port. Raises StartupError."""
    own = {"APP__DB_DSN": dsn, "APP__PORT": str(port), "APP__SERVICE_NAME": ""}
    known = [name.removeprefix("APP__") for name in (ORDER_DB_DSN, PROCESSOR_DB_DSN)]
    known += [field for other in (OrderSettings, ProcessorSettings) for field in other.__struct_fields__]
    settings, warnings = read_settings(kind, {**environ, **own}, also_known=known)
    for warning in warnings:
        screen.note(warning)
    return settings


async def _show(order: Service, processor: Service, addresses: DatabaseAddresses, screen: Screen) -> None:
    """What there is to see until both services stop. Problems of the samples stop nothing."""
    try:
        await _greet(order, processor, addresses, screen)
        await asyncio.Event().wait()
    finally:
        screen.stopping()


async def _greet(order: Service, processor: Service, addresses: DatabaseAddresses, screen: Screen) -> None:
    with screen.step("starting the services"):
        await order.ready()
        await processor.ready()
    screen.addresses(order.url, processor.url)
    try:
        screen.outcomes([await submit(sample, order.url) for sample in SAMPLES])
    except httpx.HTTPError as error:
        screen.note(f"the sample orders were not accepted: {error}")
    screen.serving(order.url, addresses.data_dir)
