"""`order-processor up`: both services in one process."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import httpx
from msgspec.structs import replace

from order_console.console import console
from order_processor.parts import (
    ORDER_DB_DSN,
    PROCESSOR_DB_DSN,
    RABBITMQ_URL,
    DatabaseAddresses,
    brokers,
    databases,
)
from order_processor.samples import SAMPLES, submit
from order_processor.screen import Screen
from order_service.main import order_service
from order_service.settings import OrderSettings
from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.errors import StartupError
from service_kit.http.access import is_loopback
from service_kit.http.server import listening_socket
from service_kit.service import Service, serve_until_stopped
from service_kit.settings import ReadSettings, S, read_settings
from service_kit.tracing.settings import RABBITMQ, tracer_for
from service_kit.tracing.tracer import Tracer


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
        names_here = str(error).replace("APP__PORT", "--order-port or --processor-port")
        names_here = names_here.replace("APP__DB_DSN", f"{ORDER_DB_DSN} or {PROCESSOR_DB_DSN}")
        raise StartupError(names_here, exit_code=error.exit_code) from error


async def _up(options: UpOptions, environ: Mapping[str, str], screen: Screen) -> None:
    async with AsyncExitStack() as stack:
        settings = checked_settings(options, environ)
        policy = configured_policy(settings.processor, Random())
        order_tracer, processor_tracer = _tracers(settings, environ)
        for warning in settings.warnings:
            screen.note(warning)
        addresses = await stack.enter_async_context(databases(environ, options.data_dir, screen))
        order_settings = replace(settings.order, db_dsn=addresses.order)
        processor_settings = replace(settings.processor, db_dsn=addresses.processor)
        order_broker, processor_broker = await stack.enter_async_context(
            brokers(environ, order_settings, processor_settings)
        )
        processor_parts = processor_service(
            processor_settings, processor_broker, policy, open_on_loopback=True, tracer=processor_tracer
        )
        processor = Service("processor-service", processor_parts)
        order_parts = order_service(
            order_settings,
            order_broker,
            processor_url=lambda: processor.url,
            tracer=order_tracer,
            open_on_loopback=True,
            console=console(
                order_url=lambda: order.url,
                processor_url=lambda: processor.url,
                admin_key=order_settings.admin_key,
                open_on_loopback=True,
            ),
        )
        order = Service("order-service", order_parts)
        await serve_until_stopped(
            order, processor, meanwhile=lambda: _show(order, processor, addresses, screen)
        )
    screen.stopped(thrown_away=addresses.thrown_away)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSettings:
    order: OrderSettings
    processor: ProcessorSettings
    warnings: Sequence[str]


def checked_settings(options: UpOptions, environ: Mapping[str, str]) -> CheckedSettings:
    """What can be known to be wrong before anything is started or written. Raises StartupError."""
    if options.order_port == options.processor_port != 0:
        raise StartupError("--order-port and --processor-port must differ", exit_code=2)
    order, more = _settings(OrderSettings, environ, ORDER_DB_DSN, options.order_port)
    processor, warnings = _settings(ProcessorSettings, environ, PROCESSOR_DB_DSN, options.processor_port)
    for settings in (order, processor):
        listening_socket(settings.host, settings.port, backlog=1).close()
    return CheckedSettings(order=order, processor=processor, warnings=list(dict.fromkeys([*more, *warnings])))


def _settings(kind: type[S], environ: Mapping[str, str], dsn_name: str, port: int) -> ReadSettings[S]:
    """A service's settings: those of the environment, but its own database and port. Raises StartupError.

    Unless APP__AUTH says otherwise, keys are asked for as soon as others than this machine can ask.
    """
    dsn = environ.get(dsn_name) or "postgresql://embedded"
    by_host = "off" if is_loopback(environ.get("APP__HOST") or "localhost") else "keys"
    auth = environ.get("APP__AUTH") or by_host
    own = {"APP__DB_DSN": dsn, "APP__PORT": str(port), "APP__SERVICE_NAME": "", "APP__AUTH": auth}
    known = [name.removeprefix("APP__") for name in (ORDER_DB_DSN, PROCESSOR_DB_DSN)]
    known += [field for other in (OrderSettings, ProcessorSettings) for field in other.__struct_fields__]
    try:
        return read_settings(kind, {**environ, **own}, also_known=known)
    except StartupError as error:
        raise StartupError(str(error).replace("APP__DB_DSN", dsn_name), exit_code=error.exit_code) from error


def _tracers(settings: CheckedSettings, environ: Mapping[str, str]) -> tuple[Tracer | None, Tracer | None]:
    """One for each service, so that both keep their names. Raises StartupError."""
    trace = partial(
        tracer_for,
        messaging_system=RABBITMQ if environ.get(RABBITMQ_URL) else "in_process",
        shares_process=True,
    )
    return trace(settings.order), trace(settings.processor, is_global=True)


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
        outcomes = [await submit(sample, order.url) for sample in SAMPLES]
        screen.outcomes(outcomes)
        if any(outcome.order["status"] == "pending" for outcome in outcomes):
            screen.note(f"still pending; {order.url}/ready and {processor.url}/ready say what is missing")
    except httpx.HTTPError as error:
        screen.note(f"the sample orders were not accepted: {error}")
    screen.serving(order.url, addresses.data_dir, thrown_away=addresses.thrown_away)
