"""The whole path under load, watched: at a fixed rate, or sent as earlier orders become final."""

import asyncio
from dataclasses import dataclass

from asyncpg import Connection

from bench.generator import Generator
from bench.load.spec import LoadResult, LoadSpec
from bench.servers import connected
from bench.stage import Stage
from bench.watch import pending

# Half the window and 64 clients leave cores idle: what ends the search is then that too few orders are
# offered, and not what the path carries (docs/performance.md has the figures).
WINDOW_ORDERS = 3_000
PATH_CONNECTIONS = 256
_LOOK_SECONDS, _LOOK_SECONDS_WINDOWED = 0.5, 0.1
_DRAIN_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """`backlog`: (seconds, orders not yet final). `drained_seconds`: from the stop to the last order."""

    result: LoadResult
    backlog: list[tuple[float, int]]
    backlog_at_stop: int
    drained_seconds: float | None
    warm_seconds: float

    @property
    def rate(self) -> float:
        """Orders that became final in a second of the measured time."""
        nearest = min(self.backlog, key=lambda point: abs(point[0] - self.warm_seconds), default=(0.0, 0))
        at_begin = nearest[1]
        return (self.result.good + at_begin - self.backlog_at_stop) / self.result.seconds


async def held(staged: Stage, spec: LoadSpec, *, window: int | None = None) -> Course:
    """Hold the load until it ends, then wait until all is final.

    With `window` no more than so many orders are under way at any time: the most that the path carries.
    """
    clock = asyncio.get_running_loop().time
    backlog: list[tuple[float, int]] = []
    async with connected(staged.orders_dsn) as connection, Generator(spec) as generator:
        begun_at: float | None = None
        looks = _LOOK_SECONDS_WINDOWED if window else _LOOK_SECONDS
        while not await generator.stops_within(looks):
            waiting = await pending(connection)
            if generator.begun:
                begun_at = begun_at or clock()
                backlog.append((clock() - begun_at, waiting))
            if window:
                # What was accepted is known a little late, so this never allows too many.
                generator.allow(max(0, generator.good - waiting) + window)
        at_stop = await pending(connection)
        stopped_at = clock()
        result = await generator.result()
        drained_seconds = clock() - stopped_at if await drained(connection) else None
        return Course(
            result=result,
            backlog=backlog,
            backlog_at_stop=at_stop,
            drained_seconds=drained_seconds,
            warm_seconds=spec.warm_seconds,
        )


async def drained(connection: Connection) -> bool:
    """Wait until no order is pending; whether that came within two minutes."""
    clock = asyncio.get_running_loop().time
    ends_at = clock() + _DRAIN_SECONDS_MAX
    while await pending(connection):
        if clock() > ends_at:
            return False
        await asyncio.sleep(0.05)
    return True
