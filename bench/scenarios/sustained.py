"""The highest load that the whole path carries: first found, then held for a minute."""

from bench.load.spec import LoadSpec
from bench.scenarios.intake import told
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.stage import Stage, stage
from bench.window import PATH_CONNECTIONS, WINDOW_ORDERS, Course, held

EVENTS_PER_MESSAGE = (1, 100)
_HELD_SHARE = 0.95


async def run(bench: Bench) -> Figures:
    return {str(events): await _sustained(bench, events) for events in EVENTS_PER_MESSAGE}


async def _sustained(bench: Bench, events: int) -> Figures:
    lengths = bench.lengths
    async with stage(bench.servers, settings={"APP__EVENTS_PER_MESSAGE": str(events)}) as staged:
        await staged.start(staged.order, staged.processor)
        bench.tell(f"{events} events a message: finding the rate")
        found = await held(staged, windowed(staged, lengths.capacity_seconds, "c"), window=WINDOW_ORDERS)
        bench.tell(f"{events} events a message: holding {_HELD_SHARE * found.rate:,.0f}/s")
        before = staged.usage()
        course = await held(
            staged,
            staged.spec(
                connections=PATH_CONNECTIONS,
                seconds=lengths.sustained_seconds,
                rate=_HELD_SHARE * found.rate,
                prefix="s",
                warm_seconds=2.0,
            ),
        )
        after = staged.usage()
    return {
        "found_rate": found.rate,
        **course_told(course),
        "cpu": after.microseconds_each(before, course.result.good_ever),
        "megabytes": dict(after.megabytes),
    }


def windowed(staged: Stage, seconds: float, prefix: str, **fields: object) -> LoadSpec:
    """As many orders as the path carries, and no more."""
    return staged.spec(
        connections=PATH_CONNECTIONS,
        seconds=seconds,
        prefix=prefix,
        allowance=WINDOW_ORDERS,
        warm_seconds=2.0,
        **fields,
    )


def course_told(course: Course) -> Figures:
    return {
        **told(course.result),
        "rate": course.rate,
        "offered": course.result.rate,
        "late": course.result.late,
        "backlog": [[round(seconds, 1), waiting] for seconds, waiting in course.backlog],
        "backlog_at_stop": course.backlog_at_stop,
        "drained_seconds": course.drained_seconds,
    }


SCENARIO = Scenario(
    name="sustained",
    story="the highest load held end to end, with 1 and with up to 100 events a message",
    run=run,
    seconds=lambda lengths: 2 * (lengths.capacity_seconds + lengths.sustained_seconds + 8),
)
