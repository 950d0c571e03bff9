"""What the poller saw last and in the last quarter of an hour, and those who watch it."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice

from order_console.points import HISTORY_SECONDS, Point, backlog_point, flow_points
from order_console.view import Pace, Snapshot, View
from order_processor_client.admin_models import Flow
from order_processor_client.request import Service

_PACE_SECONDS = 5
_COUNTED = ("accepted", "done", "failed")


class Feed:
    """Filled by one poller, and read by all who watch: watching costs the services nothing more."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.parts: Mapping[str, str] = {}
        """Pieces of pages, by their names, as they look now."""
        self.version = 0
        self.closed = False
        self._flow: deque[Point] = deque()
        self._backlog: deque[Point] = deque()
        self._changed = asyncio.Event()
        self._watched = asyncio.Event()
        self._viewers = 0

    def take(self, at: datetime, views: Mapping[Service, View], flow: Flow | None) -> None:
        """`flow` is None when it could not be read."""
        if flow:
            self._flow.extend(flow_points(self.newest_flow_at, flow))
        self._backlog.append(backlog_point(at, views.values()))
        for points in (self._flow, self._backlog):
            _forget(points)
        self.snapshot = Snapshot(views=views, pace=_pace(self._flow) if flow else Pace())

    def publish(self, parts: Mapping[str, str]) -> None:
        self.parts = parts
        self.version += 1
        self._wake()

    def close(self) -> None:
        """End what would never end by itself: the answers of those who watch."""
        self.closed = True
        self._wake()

    @property
    def newest_flow_at(self) -> int:
        return newest_at(self._flow, 0)

    def flow(self, since: int) -> list[Point]:
        return [point for point in self._flow if _at(point) > since]

    def backlog(self, since: int) -> list[Point]:
        return [point for point in self._backlog if _at(point) > since]

    async def changed(self, version: int) -> None:
        """Return when there is a newer version, or the feed is closed."""
        while self.version == version and not self.closed:
            await self._changed.wait()

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._viewers += 1
        self._watched.set()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watched.clear()

    async def pause(self, watched_seconds: float, idle_seconds: float) -> None:
        """Until the next look is worth its cost: sooner while somebody watches."""
        if self._viewers:
            await asyncio.sleep(watched_seconds)
            return
        try:
            async with asyncio.timeout(idle_seconds):
                await self._watched.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def newest_at(points: Sequence[Point], otherwise: int) -> int:
    return _at(points[-1]) if points else otherwise


def _forget(points: deque[Point]) -> None:
    while points and _at(points[0]) < _at(points[-1]) - HISTORY_SECONDS * 1000:
        points.popleft()


def _pace(flow: deque[Point]) -> Pace:
    newest = list(islice(reversed(flow), _PACE_SECONDS))
    if not newest:
        return Pace()
    means = {key: sum(point[key] or 0 for point in newest) / len(newest) for key in _COUNTED}
    measured = next((point for point in newest if point["p50"] is not None), {"p50": None, "p99": None})
    return Pace(**means, p50=measured["p50"], p99=measured["p99"])


def _at(point: Point) -> int:
    at = point["at"]
    assert at is not None
    return int(at)
