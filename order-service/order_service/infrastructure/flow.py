"""How orders flow: counted in each process, written once a second, added up when asked for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil, log
from random import Random
from typing import ClassVar

from order_service.application.ports import Finished
from order_service.domain.order import Status
from service_kit.errors import Unavailable
from service_kit.lifecycle import BackgroundService
from service_kit.postgres.database import Database, Record

WRITE = """
INSERT INTO flow_samples (instance, seconds, accepted, done, failed, latency) VALUES ($1, $2, $3, $4, $5, $6)
"""

# The present second is not over yet: some instances may still have to write theirs.
READ = """
SELECT date_trunc('second', at) AS at, seconds, accepted, done, failed, latency FROM flow_samples
WHERE at >= now() - $1 * interval '1 s' AND at < date_trunc('second', now()) ORDER BY at
"""

NOW = "SELECT now()"

FORGET = "DELETE FROM flow_samples WHERE at < now() - $1 * interval '1 s'"

RETENTION_SECONDS = 3_900.0
_CLEANING_SECONDS = 60.0

# Latencies fall into classes 19 % apart: class 0 up to a millisecond, class 4 up to two, and so on to hours.
_FIRST_SECONDS, _CLASSES_PER_DOUBLING, _CLASSES = 0.001, 4, 96


def latency_class(seconds: float) -> int:
    if seconds <= _FIRST_SECONDS:
        return 0
    return ceil(min(_CLASSES - 1, log(seconds / _FIRST_SECONDS, 2) * _CLASSES_PER_DOUBLING))


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """The latency that `share` of the orders kept, up to 19 % too high; None without any order."""
    left = share * sum(counts)
    for number, count in enumerate(counts):
        left -= count
        if count and left <= 0:
            return round(1000 * _FIRST_SECONDS * 2 ** (number / _CLASSES_PER_DOUBLING), 1)
    return None


@dataclass(slots=True)
class Flow:
    """What happened in some time. `latency` counts finished orders by class, without trailing zeros."""

    accepted: int
    done: int
    failed: int
    latency: list[int]

    def add(self, other: "Flow") -> None:
        self.accepted += other.accepted
        self.done += other.done
        self.failed += other.failed
        self.latency = [sum(pair) for pair in zip_longest(self.latency, other.latency, fillvalue=0)]


class FlowMeter:
    """Counts in this process; costs an order less than a microsecond."""

    def __init__(self) -> None:
        self._flow = Flow(0, 0, 0, [])

    def accepted(self, orders: int) -> None:
        self._flow.accepted += orders

    def finished(self, order: Finished) -> None:
        flow, number = self._flow, latency_class(order.seconds)
        if order.status is Status.FAILED:
            flow.failed += 1
        else:
            flow.done += 1
        if number >= len(flow.latency):
            flow.latency += [0] * (number + 1 - len(flow.latency))
        flow.latency[number] += 1

    def take(self) -> Flow | None:
        """What happened since the last call, None when nothing did."""
        if self._flow == Flow(0, 0, 0, []):
            return None
        taken, self._flow = self._flow, Flow(0, 0, 0, [])
        return taken

    def give_back(self, flow: Flow) -> None:
        self._flow.add(flow)


class FlowSampler(BackgroundService):
    """Writes what the meter has counted, once every `interval_seconds` in which something happened.

    During an outage it goes on counting; the first sample after it then stands for all that time.
    """

    name: ClassVar[str] = "flow_sampler"

    def __init__(
        self,
        database: Database,
        meter: FlowMeter,
        instance: str,
        *,
        interval_seconds: float = 1.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._meter = meter
        self._instance = instance
        self._interval_seconds = interval_seconds
        self._sampled_at: float | None = None
        self._clean_at = 0.0

    async def run_once(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._sampled_at is None:
            self._sampled_at = clock()
        await self.pause(self._interval_seconds)
        seconds, flow = clock() - self._sampled_at, self._meter.take()
        if flow is not None:
            await self._write(flow, seconds)
        self._sampled_at += seconds
        if clock() >= self._clean_at:
            self._clean_at = clock() + _CLEANING_SECONDS
            async with self._database.connection() as connection:
                await connection.execute(FORGET, RETENTION_SECONDS)

    async def _write(self, flow: Flow, seconds: float) -> None:
        try:
            async with self._database.connection() as connection:
                await connection.execute(
                    WRITE, self._instance, seconds, flow.accepted, flow.done, flow.failed, flow.latency
                )
        except Unavailable:
            self._meter.give_back(flow)
            raise


async def flow_of(database: Database, seconds: int) -> Mapping[str, object]:
    """The last `seconds`, a sample for each second in which anything happened, all instances together."""
    async with database.transaction() as connection:
        now = await connection.fetchval(NOW)
        records = await connection.fetch(READ, float(seconds))
    moments: dict[object, tuple[float, Flow]] = {}
    for record in records:
        longest, flow = moments.get(record["at"], (0.0, Flow(0, 0, 0, [])))
        flow.add(_flow(record))
        moments[record["at"]] = max(longest, record["seconds"]), flow
    return {"now": now, "samples": [_sample(at, *moment) for at, moment in moments.items()]}


def _flow(record: Record) -> Flow:
    return Flow(record["accepted"], record["done"], record["failed"], record["latency"])


def _sample(at: object, seconds: float, flow: Flow) -> Mapping[str, object]:
    return {
        "at": at,
        "seconds": round(seconds, 3),
        "accepted": flow.accepted,
        "done": flow.done,
        "failed": flow.failed,
        "latency_ms": {"p50": quantile_ms(flow.latency, 0.5), "p99": quantile_ms(flow.latency, 0.99)},
    }
