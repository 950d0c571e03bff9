"""A console on a real server, before two services that answer what a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from starlette.routing import BaseRoute

from order_console.console import console
from order_console.testing.fake_services import FakeService, order_service, processor_service
from order_console.testing.visitor import Visitor
from order_processor_client.request import Service
from service_kit.http.application import application
from service_kit.http.server import HttpServer, http_server
from service_kit.observability.metrics import Metrics

KEY = "a-key-of-the-tests"


@dataclass(slots=True, kw_only=True)
class Deployed:
    """The services, and somebody who looks at their console; `away` takes a service away."""

    order: FakeService
    processor: FakeService
    visitor: Visitor
    away: Callable[[Service], Awaitable[None]]
    close: Callable[[], None]


Deploy = Callable[..., Awaitable[Deployed]]


@asynccontextmanager
async def deployment() -> AsyncIterator[Deploy]:
    """`await deploy(key, open_on_loopback=…)`; all that was deployed ends with the context."""
    async with AsyncExitStack() as stack:

        async def serve(routes: Sequence[BaseRoute]) -> HttpServer:
            app = application(routes, metrics=Metrics())
            return await stack.enter_async_context(http_server(app, "127.0.0.1", 0, grace_seconds=1.0))

        async def start(key: str | None = KEY, *, open_on_loopback: bool = False) -> Deployed:
            order, processor = order_service(), processor_service()
            servers = {
                Service.ORDER: await serve(order.routes()),
                Service.PROCESSOR: await serve(processor.routes()),
            }
            made = await stack.enter_async_context(
                console(
                    order_url=lambda: servers[Service.ORDER].url,
                    processor_url=lambda: servers[Service.PROCESSOR].url,
                    admin_key=key,
                    open_on_loopback=open_on_loopback,
                )
            )
            shown = await serve(made.routes)
            visitor = Visitor(shown.url)
            stack.push_async_callback(visitor.close)

            async def away(service: Service) -> None:
                await servers[service].drain(0.5)

            return Deployed(order=order, processor=processor, visitor=visitor, away=away, close=made.close)

        yield start
