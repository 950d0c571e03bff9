"""Routes that take no events now: the relay leaves them alone and probes them with one event at a time."""

import asyncio
from dataclasses import dataclass
from random import Random

import structlog

from service_kit.broker import PublishOutcome
from service_kit.retry import Backoff

log = structlog.stdlib.get_logger()

PROBE_BACKOFF = Backoff(first_seconds=0.2, max_seconds=10.0)


@dataclass(slots=True)
class _ClosedRoute:
    probes: int
    next_probe_at: float


class ClosedRoutes:
    """Event types without a queue, or refused by the broker: an outage of the route, not of the event.

    A closed route is due for a probe after 0.2 s, and then at intervals that double up to 10 s, counted by
    the event loop's clock; the first success opens it.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._routes: dict[str, _ClosedRoute] = {}

    def event_types(self) -> list[str]:
        return list(self._routes)

    def due(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return [event_type for event_type, route in self._routes.items() if route.next_probe_at <= now]

    def seconds_to_next_probe(self) -> float:
        """Until the next route is due; infinite when none is closed."""
        now = asyncio.get_running_loop().time()
        return min((route.next_probe_at - now for route in self._routes.values()), default=float("inf"))

    def close(self, event_type: str, outcome: PublishOutcome) -> None:
        """Note a failed event; a second failure before the next probe is due changes nothing."""
        now = asyncio.get_running_loop().time()
        route = self._routes.get(event_type)
        if route is None:
            log.warning("route_closed", event_type=event_type, reason=outcome.value)
            route = self._routes[event_type] = _ClosedRoute(0, now)
        if route.next_probe_at <= now:
            route.probes += 1
            route.next_probe_at = now + PROBE_BACKOFF.delay_seconds(route.probes, self._random)

    def open(self, event_type: str) -> None:
        if self._routes.pop(event_type, None):
            log.info("route_opened", event_type=event_type)
