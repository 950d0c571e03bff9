"""Requests in closed or open loop, and what became of them."""

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.load.connection import Connection
from bench.load.spec import LoadResult, LoadSpec, order_id, request_template
from bench.statistics import PERCENTILES, percentile

_LAST_ANSWERS_SECONDS_MAX = 20.0
_TICK_SECONDS = 0.001


class Load:
    """`run` once; `allow` may raise the allowance meanwhile, `stop` end it before its time.

    `on_stopped` is called when the measured time is over, while the last answers are still awaited.
    """

    def __init__(self, spec: LoadSpec, on_stopped: Callable[[], None] = lambda: None) -> None:
        self.spec = spec
        self.begun = self.good = 0
        self._on_stopped = on_stopped
        self._template = request_template(spec)
        self._limit = spec.count if spec.count is not None else 2**62
        self._allowed = 0
        self._idle: list[Connection] = []
        self._latencies = array("d")
        self._times = array("d")
        self._statuses: Counter[bytes] = Counter()
        self._without_retry_after = self._broken = self._good_before = 0
        self._under_way = 0
        self._running = False
        self._started_at = self._wall_offset = 0.0
        self._over = asyncio.Event()
        self._new_id = _ids(spec)

    async def run(self) -> LoadResult:
        await self._connect()
        cpu = time.process_time()
        self._start()
        await self._for_seconds(self.spec.warm_seconds)
        self._good_before, measured_from = self.good, time.perf_counter()
        self._latencies = array("d")
        await self._for_seconds(self.spec.seconds)
        seconds, good = time.perf_counter() - measured_from, self.good - self._good_before
        late = max(0, min(self._due(), self._limit) - self.begun) if self.spec.rate else 0
        self._running = False
        self._on_stopped()
        latencies = self._latencies
        self._latencies = array("d")
        await self._last_answers()
        if self.spec.times_file:
            Path(self.spec.times_file).write_bytes(self._times.tobytes())  # noqa: ASYNC240, the load is over
        ordered = sorted(latencies)
        return LoadResult(
            seconds=seconds,
            good=good,
            good_ever=self.good,
            statuses={status.decode("latin-1"): count for status, count in self._statuses.items()},
            without_retry_after=self._without_retry_after,
            broken=self._broken,
            late=late,
            percentiles={name: percentile(ordered, share) for name, share in PERCENTILES.items()},
            slowest_seconds=ordered[-1] if ordered else 0.0,
            cpu_seconds=time.process_time() - cpu,
        )

    def allow(self, total: int) -> None:
        """Let `total` requests be begun, those before included."""
        self._allowed = max(self._allowed, min(total, self._limit))
        while self._idle and self._running and self.begun < self._allowed:
            self._begin(self._idle.pop())

    def stop(self) -> None:
        self._over.set()

    # the connections' owner

    def answered(self, connection: Connection, status: bytes, answer: bytes) -> None:
        self._under_way -= 1
        self._statuses[status] += 1
        if status[:1] == b"2":
            self.good += 1
            self._latencies.append(time.perf_counter() - connection.due_at)
        elif status == b"503" and b"\r\nretry-after: " not in answer:
            self._without_retry_after += 1
        if self._running and self.begun < self._allowed:
            self._begin(connection)
        else:
            self._idle.append(connection)
            if not self._under_way and self.begun >= self._limit:
                self._over.set()

    def lost(self, connection: Connection) -> None:
        if not self._running:
            return
        self._broken += 1
        if connection in self._idle:
            self._idle.remove(connection)
        else:
            self._under_way -= 1

    # time

    def _start(self) -> None:
        self._started_at = time.perf_counter()
        self._wall_offset = time.time() - self._started_at
        self._running = True
        if self.spec.rate:
            self._tick()
        else:
            self.allow(self._limit if self.spec.allowance is None else self.spec.allowance)

    def _tick(self) -> None:
        if not self._running:
            return
        due = self._due()
        self.allow(due)
        assert self.spec.rate
        next_at = self._started_at + due / self.spec.rate
        wait = max(_TICK_SECONDS, next_at - time.perf_counter())
        asyncio.get_running_loop().call_later(wait, self._tick)

    def _due(self) -> int:
        assert self.spec.rate
        return int((time.perf_counter() - self._started_at) * self.spec.rate) + 1

    def _begin(self, connection: Connection) -> None:
        number = self.begun
        self.begun = number + 1
        self._under_way += 1
        rate = self.spec.rate
        connection.due_at = self._started_at + number / rate if rate else time.perf_counter()
        if self.spec.times_file:
            self._times.append(connection.due_at + self._wall_offset)
        connection.send(self._template % self._new_id(number))

    async def _for_seconds(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return

    async def _connect(self) -> None:
        loop, spec = asyncio.get_running_loop(), self.spec
        for _ in range(spec.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), spec.host, spec.port)
            self._idle.append(connection)

    async def _last_answers(self) -> None:
        ends_at = time.perf_counter() + _LAST_ANSWERS_SECONDS_MAX
        while self._under_way > 0 and time.perf_counter() < ends_at:
            await asyncio.sleep(0.01)
        for connection in self._idle:
            connection.close()


def _ids(spec: LoadSpec) -> Callable[[int], bytes]:
    if spec.kind == "get":
        return lambda number: order_id(spec, number * 7919 % spec.known).encode()
    if spec.ids == "random":
        return lambda number: order_id(spec, number).encode()
    template = f"{spec.prefix}-%010d".encode()
    return lambda number: template % number
