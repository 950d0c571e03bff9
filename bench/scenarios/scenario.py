"""A scenario measures one question, once; the runner repeats it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench.servers import Servers

Figures = dict[str, Any]
"""What one run of a scenario measured; JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long and how much: of a full run, which takes about 35 minutes, or of a quick one."""

    quick: bool = False
    repeats: int = 3
    intake_seconds: float = 6.0
    pgbench_seconds: int = 6
    capacity_seconds: float = 10.0
    sustained_seconds: float = 60.0
    latency_seconds: Mapping[int, float] = field(default_factory=lambda: {50: 20.0, 200: 15.0, 1000: 10.0})
    idle_orders: int = 50
    drain_orders: int = 100_000
    overload_seconds: float = 30.0
    reading_seconds: float = 5.0
    growth_orders: tuple[int, ...] = (0, 1_000_000, 10_000_000)
    growth_seconds: float = 6.0
    growth_rounds: int = 3
    soak_orders: int = 1_000_000
    plain_seconds: float = 20.0
    loop_messages: int = 100_000
    traces_seconds: float = 10.0

    def repeated(self, times: int) -> "Lengths":
        return replace(self, repeats=times)


QUICK = Lengths(
    quick=True,
    repeats=1,
    intake_seconds=1.0,
    pgbench_seconds=2,
    capacity_seconds=2.0,
    sustained_seconds=4.0,
    latency_seconds={50: 2.0, 200: 2.0, 1000: 2.0},
    idle_orders=10,
    drain_orders=10_000,
    overload_seconds=4.0,
    reading_seconds=2.0,
    growth_orders=(0, 100_000),
    growth_seconds=2.0,
    growth_rounds=1,
    soak_orders=10_000,
    plain_seconds=4.0,
    loop_messages=20_000,
    traces_seconds=1.0,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario is given; `known` are the figures of the runs before, by scenario."""

    servers: Servers
    lengths: Lengths
    tell: Callable[[str], None]
    known: Mapping[str, list[Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`seconds` is about how long a run takes; `repeated` says that a median of several runs is wanted.

    What is not `by_default` is measured only when `--only` names it.
    """

    name: str
    story: str
    run: Callable[[Bench], Awaitable[Figures]]
    seconds: Callable[[Lengths], float]
    repeated: bool = True
    by_default: bool = True
