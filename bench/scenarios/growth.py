"""Intake and throughput on tables that are empty, and on tables full of history."""

from contextlib import AsyncExitStack

from bench.fill import history
from bench.generator import load
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.scenarios.sustained import windowed
from bench.servers import connected
from bench.stage import CLOSED_PORT, Stage, stage
from bench.statistics import median
from bench.watch import pending, sizes
from bench.window import WINDOW_ORDERS, drained, held

_RATES = ("intake_rate", "rate", "random_rate")


async def run(bench: Bench) -> Figures:
    """All sizes in turn, several rounds of it, so that a noisy minute spoils one round of each.

    Medians of the rounds; only one size's services run at a time.
    """
    lengths = bench.lengths
    async with AsyncExitStack() as stack:
        stages: dict[int, Stage] = {}
        for orders in lengths.growth_orders:
            bench.tell(f"filling a table with {orders:,} orders")
            stages[orders] = await stack.enter_async_context(stage(bench.servers))
            await history(stages[orders], 0, orders)
        await bench.servers.settle()
        rounds: dict[int, list[dict[str, float]]] = {orders: [] for orders in stages}
        for number in range(lengths.growth_rounds):
            for orders, staged in stages.items():
                bench.tell(f"round {number + 1} with {orders:,} orders in the tables")
                rounds[orders].append(await _measured(staged, lengths.growth_seconds, f"{number}"))
        return {
            "orders": {
                str(orders): {name: median([each[name] for each in rounds[orders]]) for name in _RATES}
                | {"rounds": rounds[orders], "megabytes": await _sizes(staged)}
                for orders, staged in stages.items()
            }
        }


async def _measured(staged: Stage, seconds: float, prefix: str) -> dict[str, float]:
    """Intake with the broker away; then, when that is drained, the whole path."""
    staged.order.next_environment({"APP__RABBITMQ_URL": CLOSED_PORT})
    await staged.listening(staged.order)
    intake = await load(staged.spec(connections=64, seconds=seconds, prefix=f"gi{prefix}", warm_seconds=1.0))
    await staged.order.close()
    await staged.start(staged.order, staged.processor)
    try:
        async with connected(staged.orders_dsn) as connection:
            if not await drained(connection):
                raise RuntimeError(f"{await pending(connection)} orders do not become final")
        ordered = await held(staged, windowed(staged, seconds, f"gt{prefix}"), window=WINDOW_ORDERS)
        random = await held(
            staged, windowed(staged, seconds, f"gr{prefix}", ids="random"), window=WINDOW_ORDERS
        )
    finally:
        await staged.order.close()
        await staged.processor.close()
    return {"intake_rate": intake.rate, "rate": ordered.rate, "random_rate": random.rate}


async def _sizes(staged: Stage) -> dict[str, float]:
    async with connected(staged.orders_dsn) as connection:
        return await sizes(connection)


SCENARIO = Scenario(
    name="growth",
    story="intake and throughput with history in the tables",
    run=run,
    seconds=lambda lengths: (
        lengths.growth_rounds * len(lengths.growth_orders) * (3 * lengths.growth_seconds + 6)
        + sum(lengths.growth_orders) / 40_000
    ),
    repeated=False,
)
