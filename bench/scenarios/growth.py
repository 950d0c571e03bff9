"""Intake and throughput on tables that are empty, and on tables full of history."""

from bench.fill import history
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.scenarios.sustained import windowed
from bench.servers import connected
from bench.stage import Stage, stage
from bench.watch import sizes
from bench.window import WINDOW_ORDERS, held


async def run(bench: Bench) -> Figures:
    """Intake at 64 connections with the processor idle at first; then the whole path."""
    figures: Figures = {"orders": {}}
    async with stage(bench.servers) as staged:
        await staged.start(staged.order, staged.processor)
        begin = 0
        for orders in bench.lengths.growth_orders:
            if orders > begin:
                bench.tell(f"filling up to {orders:,} orders")
                await history(staged, begin, orders)
                begin = orders
            bench.tell(f"{orders:,} orders in the tables")
            figures["orders"][str(orders)] = await _measured(bench, staged, orders)
    return figures


async def _measured(bench: Bench, staged: Stage, orders: int) -> Figures:
    seconds = bench.lengths.growth_seconds
    before = staged.usage()
    intake = await held(staged, staged.spec(connections=64, seconds=seconds, prefix=f"gi{orders}"))
    middle = staged.usage()
    throughput = await held(staged, windowed(staged, seconds, f"gt{orders}"), window=WINDOW_ORDERS)
    random = await held(staged, windowed(staged, seconds, f"gr{orders}", ids="random"), window=WINDOW_ORDERS)
    async with connected(staged.orders_dsn) as connection:
        table_sizes = await sizes(connection)
    return {
        "intake_rate": intake.result.rate,
        "rate": throughput.rate,
        "random_rate": random.rate,
        "cpu": middle.microseconds_each(before, intake.result.good_ever),
        "megabytes": table_sizes,
    }


SCENARIO = Scenario(
    name="growth",
    story="intake and throughput with history in the tables",
    run=run,
    seconds=lambda lengths: (
        len(lengths.growth_orders) * (3 * lengths.growth_seconds + 6) + max(lengths.growth_orders) / 40_000
    ),
    repeated=False,
)
