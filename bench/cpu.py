"""CPU time and memory of process trees, by the part that they belong to."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

ORDER, PROCESSOR, BROKER = "order-service", "processor-service", "RabbitMQ"
POSTGRES_ORDERS, POSTGRES_PROCESSOR = "PostgreSQL for orders", "PostgreSQL for the processor"
POSTGRES_REST = "PostgreSQL's own processes"
PARTS = (ORDER, PROCESSOR, POSTGRES_ORDERS, POSTGRES_PROCESSOR, POSTGRES_REST, BROKER)


@dataclass(frozen=True, slots=True)
class Usage:
    """`seconds` of CPU since the processes began, and resident `megabytes`, by part."""

    seconds: Mapping[str, float]
    megabytes: Mapping[str, float]

    def microseconds_each(self, before: "Usage", count: int) -> dict[str, float]:
        """Since `before`, a piece of `count` pieces of work."""
        if not count:
            return {}
        return {
            part: 1e6 * (seconds - before.seconds.get(part, 0.0)) / count
            for part, seconds in self.seconds.items()
        }


def usage(*, services: Mapping[str, int], postgres_pid: int | None, rabbitmq_pid: int | None) -> Usage:
    """Of the processes `services` (part → pid) and of private servers."""
    seconds: Counter[str] = Counter()
    megabytes: Counter[str] = Counter()
    trees = dict(services)
    if rabbitmq_pid:
        trees[BROKER] = rabbitmq_pid
    for part, pid in trees.items():
        for process in _tree(pid):
            _add(process, part, seconds, megabytes)
    if postgres_pid:
        for process in _tree(postgres_pid):
            _add(process, _part_of(process), seconds, megabytes)
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(postgres_pid).cpu_times()
            seconds[POSTGRES_REST] += times.children_user + times.children_system
    return Usage(dict(seconds), dict(megabytes))


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _add(process: psutil.Process, part: str, seconds: "Counter[str]", megabytes: "Counter[str]") -> None:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        seconds[part] += times.user + times.system
        megabytes[part] += process.memory_info().rss / 1e6


def _part_of(process: psutil.Process) -> str:
    """A backend's title says whose database it is connected to."""
    with suppress(psutil.NoSuchProcess, IndexError):
        title = " ".join(process.cmdline())
        if "autovacuum" in title:
            return POSTGRES_REST
        if "_orders " in title:
            return POSTGRES_ORDERS
        if "_processor " in title:
            return POSTGRES_PROCESSOR
    return POSTGRES_REST
