"""Twice what the path carries, and as many connections as wish to wait."""

from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.scenarios.sustained import course_told
from bench.stage import stage
from bench.statistics import median
from bench.window import held

_CONNECTIONS = 6_000
_GUESS = 3_000.0


async def run(bench: Bench) -> Figures:
    known = bench.known.get("sustained", [])
    sustained = median([figures["1"]["rate"] for figures in known]) or _GUESS
    settings = {"APP__CONNECTIONS_PER_ADDRESS_MAX": str(_CONNECTIONS)}
    async with stage(bench.servers, settings=settings) as staged:
        await staged.start(staged.order, staged.processor)
        bench.tell(f"offering {2 * sustained:,.0f}/s")
        before = staged.usage()
        course = await held(
            staged,
            staged.spec(
                connections=_CONNECTIONS,
                seconds=bench.lengths.overload_seconds,
                rate=2 * sustained,
                prefix="x",
                warm_seconds=2.0,
            ),
        )
        after = staged.usage()
    if not course.result.good_ever:
        raise RuntimeError(f"no order was accepted: {course.result.statuses}")
    return {
        **course_told(course),
        "wanted": 2 * sustained,
        "sustained": sustained,
        "without_retry_after": course.result.without_retry_after,
        "cpu": after.microseconds_each(before, course.result.good_ever),
        "megabytes": dict(after.megabytes),
    }


SCENARIO = Scenario(
    name="overload",
    story="twice the sustained load: what is accepted, refused, and how long it takes",
    run=run,
    seconds=lambda lengths: lengths.overload_seconds + 8,
    repeated=False,
)
