"""What this project has promised itself about its speed, and whether the figures keep it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import cpu, statistics
from bench.report.figures import Measured
from bench.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`value` is None when it was not measured. `at_most`: smaller is better."""

    text: str
    value: float | None
    bound: float
    unit: str
    at_most: bool = False
    spread: float = 0.0

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def targets(results: Results) -> list[Target]:
    def of(name: str) -> Measured:
        return Measured(results, name)

    intake, sustained, latency = of("intake"), of("sustained"), of("latency")
    at_64 = ("connections", "64", "rate")
    times = _times_plain(sustained, of("plain"))
    return [
        Target(
            text="intake at 64 connections, broker away",
            value=intake.median(*at_64),
            spread=intake.spread(*at_64),
            bound=6000,
            unit="orders/s",
        ),
        Target(
            text="the same as a share of `pgbench -c 32`",
            value=_ratio(intake.median(*at_64), of("pgbench").median("clients", "32", "rate")),
            bound=0.4,
            unit="",
        ),
        *(
            Target(
                text=f"sustained end to end, {events} event{'s' if events != '1' else ''} a message",
                value=sustained.median(events, "rate"),
                spread=sustained.spread(events, "rate"),
                bound=bound,
                unit="orders/s",
            )
            for events, bound in (("1", 2800.0), ("100", 4500.0))
        ),
        *(
            Target(
                text=f"orders not final 2 s after the load stopped, {events} event(s) a message",
                value=_left(sustained, events),
                bound=0,
                unit="",
                at_most=True,
            )
            for events in ("1", "100")
        ),
        *(
            Target(
                text=f"POST to final at 200 orders/s, {name}",
                value=_milliseconds(latency.median("rates", "200", name)),
                spread=latency.spread("rates", "200", name),
                bound=bound,
                unit="ms",
                at_most=True,
            )
            for name, bound in (("p50", 10.0), ("p99", 50.0))
        ),
        Target(
            text="POST to final of a single order in an idle system, p50",
            value=_milliseconds(latency.median("idle", "p50")),
            spread=latency.spread("idle", "p50"),
            bound=15,
            unit="ms",
            at_most=True,
        ),
        Target(
            text="drain of a backlog",
            value=of("drain").median("rate"),
            spread=of("drain").spread("rate"),
            bound=5000,
            unit="orders/s",
        ),
        Target(
            text="times the plain implementation, end to end (the best of its figures)",
            value=statistics.median(times) if times else None,
            spread=statistics.spread(times),
            bound=50,
            unit="×",
        ),
        Target(
            text="loss of throughput when 10 % of the orders are traced",
            value=_loss(of("traces"), "10 %"),
            bound=10,
            unit="%",
            at_most=True,
        ),
        *_growth_targets(of("growth")),
        *_memory_targets(of("soak")),
    ]


def _growth_targets(growth: Measured) -> list[Target]:
    keys = growth.keys("orders")
    names = (("intake_rate", "intake"), ("rate", "throughput"), ("random_rate", "throughput, random ids"))

    def loss(figure: str) -> float | None:
        first, last = (growth.median("orders", key, figure) for key in (keys[0], keys[-1]))
        kept = _ratio(last, first)
        return None if kept is None else 100 * (1 - kept)

    return [
        Target(
            text=f"loss of {text} with {int(keys[-1]):,} orders in the tables" if keys else f"loss of {text}",
            value=loss(figure) if len(keys) > 1 else None,
            bound=10,
            unit="%",
            at_most=True,
        )
        for figure, text in names
    ]


def _memory_targets(soak: Measured) -> list[Target]:
    samples = soak.last("samples") or []

    def most(name: str) -> float | None:
        return max((sample[name] for sample in samples if name in sample), default=None)

    orders = f"{soak.last('orders') or 0:,} orders"
    memory = [
        Target(
            text=f"memory of {part}, most in {orders}", value=most(part), bound=150, unit="MB", at_most=True
        )
        for part in (cpu.ORDER, cpu.PROCESSOR)
    ]
    outbox = [
        Target(
            text=f"outbox table of {side} after {orders}",
            value=soak.median("tables", side, "outbox"),
            bound=50,
            unit="MB",
            at_most=True,
        )
        for side in ("orders", "processor")
    ]
    return memory + outbox


def _left(sustained: Measured, events: str) -> float | None:
    """How many orders the runs left that had any left."""
    runs = [run[events] for run in sustained.runs if events in run]
    late = [run for run in runs if run["drained_seconds"] is None or run["drained_seconds"] > 2]
    return float(sum(run["backlog_at_stop"] for run in late)) if runs else None


def _loss(traces: Measured, share: str) -> float | None:
    """The median of the runs, each compared with itself: what is off and on alternates within a run."""
    pairs = zip(traces.all(share, "rate"), traces.all("off", "rate"), strict=True)
    kept = [_ratio(on, off) for on, off in pairs]
    losses = [100 * (1 - share) for share in kept if share is not None]
    return statistics.median(losses) if losses else None


def _times_plain(sustained: Measured, plain: Measured) -> list[float]:
    """Of each run, compared with its own plain one: the machine's speed changes from one run to the next.

    With the largest of the plain one's figures, under load or draining, at any poll interval: the comparison
    is not to flatter. None when a run of one side failed: which of the others are a pair is then unknown.
    """
    rates, bests = sustained.all("1", "rate"), [_best(run) for run in plain.runs]
    if len(rates) != len(bests):
        return []
    return [rate / best for rate, best in zip(rates, bests, strict=True) if best]


def _best(plain: Mapping[str, Any]) -> float:
    polls = [poll for poll in plain.values() if isinstance(poll, dict)]
    return max((poll.get(figure) or 0.0 for poll in polls for figure in ("rate", "drain_rate")), default=0.0)


def _ratio(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
