"""One seed, from its plan to its verdict."""

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import simulation.database.kit_statements
import simulation.database.order_statements
import simulation.database.processor_statements  # noqa: F401, each registers its statements
from simulation.chaos import cause_troubles
from simulation.clients import cancel_until_answered, look_now_and_then, post_until_answered
from simulation.logs import quiet_logs, traced_logs
from simulation.loop import SimulatedLoop
from simulation.plan import make_plan
from simulation.poison import send_poison, send_stale_result
from simulation.trace import Trace
from simulation.world import World

REST_SECONDS_MAX = 500.0
AFTERMATH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`digest` is of the trace, when there is one."""

    seed: int
    violations: Sequence[str]
    events: int
    steps: int
    seconds: float
    trace: Trace


def simulate(seed: int, *, keep_trace: bool = False) -> Verdict:
    """Run `seed`. While it runs nothing is collected: half of the time would go into looking for garbage."""
    gc.collect(1)
    gc.disable()
    try:
        return _simulate(seed, keep_trace)
    finally:
        gc.enable()


def _simulate(seed: int, keep_trace: bool) -> Verdict:
    plan = make_plan(seed)
    trace = Trace(keep=keep_trace)
    loop = SimulatedLoop(Random(f"schedule {seed}"))
    world = World(plan, loop, trace)
    (traced_logs(trace, loop.time) if keep_trace else quiet_logs())
    try:
        loop.run(_history(world))
    except RuntimeError as error:
        world.violation(f"the run broke: {error}")
    for failure in loop.failures:
        world.violation(failure)
    return Verdict(seed, world.oracle.violations, trace.events, loop.steps, loop.time(), trace)


async def _history(world: World) -> None:
    plan = world.plan
    world.note("world", f"{plan}")
    for process in world.processes:
        process.start()
    load = [
        *(post_until_answered(world, post) for post in plan.posts),
        *(cancel_until_answered(world, cancel, which) for which, cancel in enumerate(plan.cancels)),
        *(look_now_and_then(world, number) for number in range(0, plan.orders, 7)),
        *(send_poison(world, number) for number in range(plan.poison)),
        *(send_stale_result(world, number) for number in range(plan.stale_results)),
        cause_troubles(world),
    ]
    await asyncio.gather(*load)
    await _rest(world)
    world.oracle.judge()


async def _rest(world: World) -> None:
    """Until nothing is left to do, and a little longer: what comes too late comes now."""
    for process in world.processes:
        if not process.running:
            process.start()
    deadline = world.loop.time() + REST_SECONDS_MAX
    calm_since = None
    while world.loop.time() < deadline and not world.oracle.violations:
        now = world.loop.time()
        calm_since = (calm_since or now) if world.oracle.at_rest() else None
        if calm_since is not None and now - calm_since >= AFTERMATH_SECONDS:
            return
        await asyncio.sleep(0.5)
