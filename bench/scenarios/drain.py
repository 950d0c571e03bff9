"""Orders that piled up while the broker was away, once it is back."""

import asyncio

from bench.fill import queue
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.servers import connected
from bench.stage import stage
from bench.watch import pending

_LOOK_SECONDS = 0.1
_SECONDS_MAX = 300.0


async def run(bench: Bench) -> Figures:
    """From the first look at which some were final to the last order."""
    orders = bench.lengths.drain_orders
    clock = asyncio.get_running_loop().time
    course: list[tuple[float, int]] = []
    async with stage(bench.servers) as staged:
        bench.tell(f"queueing {orders:,} orders")
        await queue(staged, orders)
        before = staged.usage()
        await staged.start(staged.processor)
        staged.order.start()
        bench.tell("draining")
        async with connected(staged.orders_dsn) as connection, asyncio.timeout(_SECONDS_MAX):
            while not course or course[-1][1]:
                await asyncio.sleep(_LOOK_SECONDS)
                if (waiting := await pending(connection)) < orders:
                    course.append((clock(), waiting))
        after = staged.usage()
    begun_at, at_begin = course[0]
    return {
        "rate": at_begin / (course[-1][0] - begun_at),
        "orders": orders,
        "cpu": after.microseconds_each(before, orders),
        "backlog": [[round(at - begun_at, 1), waiting] for at, waiting in course[::5]],
    }


SCENARIO = Scenario(
    name="drain",
    story="orders that wait in the outbox, from the first that is final to the last",
    run=run,
    seconds=lambda lengths: 5 + lengths.drain_orders / 4500,
)
