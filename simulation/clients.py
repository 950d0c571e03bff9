"""Clients that post orders until they have an answer, and remember every answer."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from order_service.domain.order import OrderId
from service_kit.errors import Unavailable
from service_kit.group_commit import Overloaded
from simulation.orders import order_id, parsed_order
from simulation.plan import Cancel, Post

if TYPE_CHECKING:
    from simulation.world import World

TIMEOUT_SECONDS = 8.0
_NOT_FOUND_MAX = 5


async def post_until_answered(world: "World", post: Post) -> None:
    """As a good client does: the same body again after every error and every silence."""
    await asyncio.sleep(post.at)
    order = parsed_order(post.number, post.variant)
    while True:
        process = world.random.choice(world.order_processes)
        before = world.oracle.version_seen(order.order_id)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                outcome = await process.post(order)
        except (Unavailable, Overloaded, OSError) as error:
            world.note("client", f"{order.order_id}/{post.variant} at {process.name}: {type(error).__name__}")
            await asyncio.sleep(world.random.uniform(0.05, 1.5))
            continue
        world.note("client", f"{order.order_id}/{post.variant} at {process.name}: {outcome.creation.value}")
        world.oracle.answered(post, outcome.creation, outcome.order, before)
        return


async def cancel_until_answered(world: "World", cancel: Cancel, which: int) -> None:
    """After every error and every silence again; an order that is not there is asked for a few times."""
    await asyncio.sleep(cancel.at)
    id, random = OrderId(order_id(cancel.number)), Random(f"cancel {world.plan.seed} {which}")
    not_found = 0
    while not_found < _NOT_FOUND_MAX:
        process = random.choice(world.order_processes)
        before = world.oracle.version_seen(id)
        world.oracle.cancel_asked(id)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                outcome = await process.cancel(id)
        except (Unavailable, OSError) as error:
            world.note("client", f"cancel {id} at {process.name}: {type(error).__name__}")
        else:
            told = outcome.cancellation.value if outcome else "not found"
            world.note("client", f"cancel {id} at {process.name}: {told}")
            if outcome:
                world.oracle.cancel_answered(id, outcome, before)
                return
            not_found += 1
        await asyncio.sleep(random.uniform(0.05, 1.5))


async def look_now_and_then(world: "World", number: int) -> None:
    """What anybody can see: versions only grow, and final is final."""
    id = OrderId(order_id(number))
    for _ in range(6):
        await asyncio.sleep(world.random.uniform(0.5, 4.0))
        process = world.random.choice(world.order_processes)
        before = world.oracle.version_seen(id)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                order = await process.get(id)
        except (Unavailable, OSError):
            continue
        world.oracle.seen(id, order, before)
