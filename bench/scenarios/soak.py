"""A million orders in a row: memory and the tables that should stay small."""

import asyncio

from bench import cpu
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.scenarios.sustained import course_told
from bench.servers import connected
from bench.stage import Stage, stage
from bench.statistics import slope_per_minute
from bench.watch import sizes
from bench.window import PATH_CONNECTIONS, WINDOW_ORDERS, held

_LOOK_SECONDS = 2.0
_SECONDS_MAX = 900.0


async def run(bench: Bench) -> Figures:
    async with stage(bench.servers) as staged:
        await staged.start(staged.order, staged.processor)
        samples: list[dict[str, float]] = []
        watching = asyncio.create_task(_watch(staged, samples))
        try:
            course = await held(
                staged,
                staged.spec(
                    connections=PATH_CONNECTIONS,
                    seconds=_SECONDS_MAX,
                    count=bench.lengths.soak_orders,
                    prefix="soak",
                    allowance=WINDOW_ORDERS,
                ),
                window=WINDOW_ORDERS,
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        tables = {}
        for part, dsn in (("orders", staged.orders_dsn), ("processor", staged.processor_dsn)):
            async with connected(dsn) as connection:
                tables[part] = await sizes(connection)
    later = samples[len(samples) // 4 :]
    return {
        **course_told(course),
        "orders": course.result.good_ever,
        "samples": samples,
        "tables": tables,
        "growth_megabytes_a_minute": {
            part: slope_per_minute([(sample["seconds"], sample[part]) for sample in later if part in sample])
            for part in (cpu.ORDER, cpu.PROCESSOR)
        },
    }


async def _watch(staged: Stage, samples: list[dict[str, float]]) -> None:
    clock = asyncio.get_running_loop().time
    begun_at = clock()
    async with connected(staged.orders_dsn) as orders, connected(staged.processor_dsn) as processor:
        while True:
            megabytes = staged.usage().megabytes
            samples.append(
                {
                    "seconds": clock() - begun_at,
                    cpu.ORDER: megabytes.get(cpu.ORDER, 0.0),
                    cpu.PROCESSOR: megabytes.get(cpu.PROCESSOR, 0.0),
                    "outbox of orders": (await sizes(orders))["outbox"],
                    "outbox of the processor": (await sizes(processor))["outbox"],
                }
            )
            await asyncio.sleep(_LOOK_SECONDS)


SCENARIO = Scenario(
    name="soak",
    story="a million orders: memory and table sizes over time",
    run=run,
    seconds=lambda lengths: 5 + lengths.soak_orders / 2800,
    repeated=False,
)
