"""The console, put together: its routes for a service's application, and the poller behind them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.routing import Route

from order_console.access import ConsoleAccess
from order_console.feed import Feed
from order_console.pages import (
    audit,
    dead_letters,
    files,
    keys,
    live,
    login,
    operating,
    orders,
    replays,
    rules,
)
from order_console.poller import Poller
from order_console.services import Services
from order_console.site import Site
from order_processor_client.request import Service

_PLACES = (live, orders, dead_letters, replays, rules, operating, keys, audit, login, files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """`close` ends the answers that would never end by themselves, so that a service can drain."""

    routes: list[Route]
    close: Callable[[], None]


NO_CONSOLE = Console(routes=[], close=lambda: None)


@asynccontextmanager
async def console(
    *,
    order_url: Callable[[], str],
    processor_url: Callable[[], str],
    admin_key: str | None,
    open_on_loopback: bool = False,
) -> AsyncIterator[Console]:
    """The console of the services at these URLs, which it asks with `admin_key`.

    Its poller runs from now on, whatever state the services are in: that is what it shows. Without a key, and
    not open, it is a page that says what to set, and the services are not asked.
    """
    feed = Feed()
    urls = {Service.ORDER: order_url, Service.PROCESSOR: processor_url}
    async with Services(urls, admin_key) as services:
        site = Site(services, feed, ConsoleAccess(admin_key, open_on_loopback=open_on_loopback))
        poller = Poller(services, feed, lambda snapshot: live.parts(site, snapshot))
        polling = asyncio.create_task(poller.run() if admin_key or open_on_loopback else _nobody_may_look())
        try:
            routes = [route for place in _PLACES for route in place.routes(site)]
            yield Console(routes=routes, close=feed.close)
        finally:
            feed.close()
            polling.cancel()  # it only looks: nothing is left half done
            await asyncio.gather(polling, return_exceptions=True)


async def _nobody_may_look() -> None: ...
