"""What tracing costs: the whole path at its limit with tracing off, at 10 % and at 100 %, side by side."""

from bench.collector import collector
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.scenarios.sustained import windowed
from bench.servers import Servers
from bench.stage import stage
from bench.window import WINDOW_ORDERS, held

SHARES: dict[str, float | None] = {"off": None, "10 %": 0.1, "100 %": 1.0}
_TURNS = (*SHARES, *reversed(SHARES))
"""There and back, so that a machine that gets faster or slower favours none."""


async def run(bench: Bench) -> Figures:
    turns: dict[str, list[Figures]] = {name: [] for name in SHARES}
    async with collector() as url:
        for name in _TURNS:
            bench.tell(f"tracing {name}")
            turns[name].append(await _at_its_limit(bench.servers, bench.lengths, url, SHARES[name]))
    return {name: _mean(figures) for name, figures in turns.items()}


async def _at_its_limit(servers: Servers, lengths: Lengths, url: str, share: float | None) -> Figures:
    async with stage(servers, settings={} if share is None else _tracing(url, share)) as staged:
        await staged.start(staged.order, staged.processor)
        before = staged.usage()
        course = await held(staged, windowed(staged, lengths.traces_seconds, "t"), window=WINDOW_ORDERS)
        after = staged.usage()
    return {"rate": course.rate, "cpu": after.microseconds_each(before, course.result.good_ever)}


def _tracing(url: str, share: float) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


def _mean(figures: list[Figures]) -> Figures:
    parts = figures[0]["cpu"]
    return {
        "rate": sum(one["rate"] for one in figures) / len(figures),
        "cpu": {part: sum(one["cpu"][part] for one in figures) / len(figures) for part in parts},
    }


SCENARIO = Scenario(
    name="traces",
    story="the whole path with tracing off, at 10 % and at 100 %, in turn",
    run=run,
    seconds=lambda lengths: len(_TURNS) * (lengths.traces_seconds + 5),
    by_default=False,
)
