"""The troubles of a run: when each comes, whom it meets and how long it lasts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from simulation.database.server import DatabaseServer
from simulation.processes import SimulatedProcess

if TYPE_CHECKING:
    from simulation.world import World

FUSE_STEPS_MAX = 1_500


async def cause_troubles(world: "World") -> None:
    """Returns when the last one is over; what they left behind is for the services to mend."""
    plan = world.plan
    troubles: list[tuple[int, Callable[[World], Awaitable[None]]]] = [
        (plan.crashes, _crash),
        (plan.terminations, _terminate),
        (plan.stops, _stop),
        (plan.database_outages, _database_outage),
        (plan.broker_restarts, _broker_restart),
        (plan.connection_losses, _connection_loss),
        (plan.blockades, _blockade),
        (plan.unbindings, _unbinding),
        (plan.deletions, _deletion),
    ]
    coming = [_at_some_time(world, trouble) for count, trouble in troubles for _ in range(count)]
    await asyncio.gather(*coming, asyncio.sleep(plan.storm_seconds))
    world.database_faults.quiet()
    world.broker_faults.quiet()
    world.note("world", "no new troubles from now on")


async def _at_some_time(world: "World", trouble: "Callable[[World], Awaitable[None]]") -> None:
    await asyncio.sleep(world.random.uniform(0.0, world.plan.storm_seconds))
    await trouble(world)


async def _crash(world: "World") -> None:
    """At any await of a process, counted in its steps: busy moments are hit as often as they are long."""
    process = world.random.choice(world.processes)
    if not process.running:
        return
    owner = process.owner
    owner.fuse = owner.steps + world.random.randint(1, FUSE_STEPS_MAX if world.random.random() < 0.5 else 60)
    owner.on_fuse = process.kill
    await asyncio.sleep(world.random.uniform(0.5, 5.0))
    if process.owner is owner:
        owner.fuse = -1
    _start_again(process)


async def _terminate(world: "World") -> None:
    process = world.random.choice(world.processes)
    if not process.running or process.owner.stopped:
        return
    process.terminate()
    life, deadline = process.life, world.plan.tuning.shutdown_grace_seconds + 2.0
    assert life
    owner = process.owner
    done, _ = await asyncio.wait({life}, timeout=deadline)
    if not done and owner.alive and not owner.stopped and process.life is life:
        world.violation(f"{owner.name} did not exit within {deadline:g} s of SIGTERM")
    while process.owner is owner and process.running:  # it was stopped meanwhile, and drains once it goes on
        await asyncio.sleep(0.5)
    await asyncio.sleep(world.random.uniform(0.1, 3.0))
    _start_again(process)


async def _stop(world: "World") -> None:
    """SIGSTOP: the process keeps everything and does nothing, while the world goes on."""
    process = world.random.choice(world.processes)
    owner = process.owner
    if not process.running or owner.stopped:
        return
    world.note(owner.name, "is stopped")
    world.loop.stop_owner(owner)
    seconds = world.random.uniform(0.1, 30.0)
    await asyncio.sleep(min(seconds, 10.0))
    if seconds > 10.0:
        world.broker.drop_all_of(owner, 0.0)  # the broker misses its heartbeats
        await asyncio.sleep(seconds - 10.0)
    world.note(owner.name, "goes on")
    world.loop.resume_owner(owner)


def _start_again(process: SimulatedProcess) -> None:
    if not process.running:
        process.start()


async def _database_outage(world: "World") -> None:
    database: DatabaseServer = world.random.choice((world.order_database, world.processor_database))
    if database.up:
        world.note(database.name, "is down")
        database.stop()
        await asyncio.sleep(world.random.choice((0.05, 1.0, 10.0)) * world.random.random())
        world.note(database.name, "is up")
        database.start()


async def _broker_restart(world: "World") -> None:
    if world.broker.up:
        world.note("broker", "is down")
        world.broker.stop()
        await asyncio.sleep(world.random.choice((0.05, 1.0, 10.0)) * world.random.random())
        world.note("broker", "is up")
        world.broker.start()


async def _connection_loss(world: "World") -> None:
    world.note("broker", "a connection is lost")
    world.broker.drop_any()


async def _blockade(world: "World") -> None:
    if not world.broker.blocked:
        world.note("broker", "blocks publishing")
        world.broker.set_blocked(True)
        await asyncio.sleep(world.random.uniform(0.1, 15.0))
        world.note("broker", "takes messages again")
        world.broker.set_blocked(False)


async def _unbinding(world: "World") -> None:
    queue = world.random.choice(_QUEUES)
    world.note("broker", f"{queue} is unbound")
    world.broker.unbind(queue, for_seconds=world.random.uniform(0.1, 10.0))
    await asyncio.sleep(10.0)


async def _deletion(world: "World") -> None:
    queue = world.random.choice(_QUEUES)
    world.note("broker", f"{queue} is deleted")
    world.broker.delete(queue)


_QUEUES = ("order-service.order.processed", "processor-service.order.created")
