"""The one look at both services, shared by all who watch."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random

from order_console.feed import Feed
from order_console.points import HISTORY_SECONDS
from order_console.services import ADMIN, Services, why
from order_console.view import Snapshot, View
from order_processor_client.admin_models import Flow
from order_processor_client.errors import ClientError
from order_processor_client.request import Service
from service_kit.lifecycle import BackgroundService

WATCHED_SECONDS, IDLE_SECONDS = 1.0, 5.0
ANSWER_SECONDS_MAX = 2.0
REPLAYS_SHOWN = 25
_OVERLAP_SECONDS = 10


class Poller(BackgroundService):
    """Looks once a second while somebody watches, and else every five seconds, for the charts' history."""

    name = "console poller"

    def __init__(
        self,
        services: Services,
        feed: Feed,
        render: Callable[[Snapshot], Mapping[str, str]],
        *,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._services = services
        self._feed = feed
        self._render = render

    async def run_once(self) -> None:
        """The pause comes first: the services are still starting, and should not be asked in vain."""
        await self.until_stopped(self._feed.pause(WATCHED_SECONDS, IDLE_SECONDS))
        views, flow = await asyncio.gather(self._views(), self._flow())
        self._feed.take(datetime.now(UTC), views, flow)
        self._feed.publish(self._render(self._feed.snapshot))

    async def _views(self) -> Mapping[Service, View]:
        views = await asyncio.gather(*(self._view(service) for service in Service))
        return dict(zip(Service, views, strict=True))

    async def _view(self, service: Service) -> View:
        ask, admin = self._services.ask, ADMIN[service]
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                state, replays = await asyncio.gather(
                    ask(admin.state()), ask(admin.replays(limit=REPLAYS_SHOWN))
                )
        except TimeoutError:
            return View(problem=f"does not answer within {ANSWER_SECONDS_MAX:g} s")
        except ClientError as error:
            return View(problem=why(error))
        return View(state=state, replays=replays.replays)

    async def _flow(self) -> Flow | None:
        """What is new, and a little of what is known; None while order-service does not answer."""
        age = datetime.now(UTC).timestamp() - self._feed.newest_flow_at / 1000
        seconds = min(HISTORY_SECONDS, max(0, int(age)) + _OVERLAP_SECONDS)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._services.ask(ADMIN[Service.ORDER].flow(seconds))
        except (ClientError, TimeoutError):
            return None
