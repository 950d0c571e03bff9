"""Orders accepted while the broker is away: HTTP and a commit, nothing beside; then some are read."""

from bench.generator import load
from bench.load.spec import LoadResult
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.servers import connected
from bench.stage import Stage, stage
from bench.watch import outbox_rows

CONNECTIONS = (64, 1, 16, 256)


async def run(bench: Bench) -> Figures:
    figures: Figures = {"connections": {}}
    async with stage(bench.servers, broker_away=True) as staged:
        await staged.listening(staged.order)
        for connections in CONNECTIONS:
            bench.tell(f"{connections} connections")
            figures["connections"][str(connections)] = await _posted(staged, connections, bench.lengths)
        async with connected(staged.orders_dsn) as connection:
            figures["outbox_rows"] = await outbox_rows(connection)
        bench.tell("reading")
        figures["reading"] = await _read(staged, bench.lengths)
    return figures


async def _posted(staged: Stage, connections: int, lengths: Lengths) -> Figures:
    before = staged.usage()
    result = await load(
        staged.spec(connections=connections, seconds=lengths.intake_seconds, prefix=f"i{connections:03d}")
    )
    return told(result) | {"cpu": staged.usage().microseconds_each(before, result.good_ever)}


async def _read(staged: Stage, lengths: Lengths) -> Figures:
    before = staged.usage()
    result = await load(
        staged.spec(
            kind="get",
            connections=64,
            seconds=lengths.reading_seconds,
            prefix="i064",
            known=1000,
        )
    )
    return told(result) | {"cpu": staged.usage().microseconds_each(before, result.good_ever)}


def told(result: LoadResult) -> Figures:
    """What of a load's result is worth keeping."""
    return {
        "rate": result.rate,
        "percentiles": dict(result.percentiles),
        "slowest_seconds": result.slowest_seconds,
        "statuses": dict(result.statuses),
        "broken": result.broken,
        "generator_us": 1e6 * result.cpu_seconds / max(1, sum(result.statuses.values())),
    }


SCENARIO = Scenario(
    name="intake",
    story="POST at 1, 16, 64 and 256 connections while the broker is away, and GET at 64",
    run=run,
    seconds=lambda lengths: 4 + 5 * (lengths.intake_seconds + 1.5),
)
