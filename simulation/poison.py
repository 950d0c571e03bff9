"""Messages of others: what no service can handle, and results that come too late."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from service_kit.message import Message
from simulation.orders import CURSED, order_id

if TYPE_CHECKING:
    from simulation.world import World

CREATED, PROCESSED = "order.created", "order.processed"


async def send_poison(world: "World", number: int) -> None:
    """The oracle is told which dead letter has to come of it."""
    await asyncio.sleep(world.random.uniform(0.0, world.plan.storm_seconds))
    kind = _KINDS[world.random.randrange(len(_KINDS))]
    routing_key, body, letter = kind(number)
    message = Message(routing_key=routing_key, body=body, message_id=f"poison-{number}")
    world.oracle.expect_letter(routing_key, letter or message.message_id, message.message_id)
    world.note("stranger", f"{routing_key} {body.decode()}")
    while not world.broker.put(message):
        await asyncio.sleep(0.5)


async def send_stale_result(world: "World", number: int) -> None:
    """A result for the version that the order already has: it changes nothing."""
    await asyncio.sleep(world.random.uniform(1.0, world.plan.storm_seconds))
    accepted = sorted(world.oracle.accepted)
    if accepted:
        id = world.random.choice(accepted)
        body = _json({"order_id": id, "status": "failed", "fail_reason": "stale", "version": 1})
        world.note("stranger", f"{PROCESSED} {body.decode()}")
        world.broker.put(Message(routing_key=PROCESSED, body=body, message_id=f"stale-{number}"))


def _no_json(number: int) -> tuple[str, bytes, str]:
    return CREATED, b"{no json %d" % number, ""


def _wrong_types(number: int) -> tuple[str, bytes, str]:
    return CREATED, _json({"order_id": number, "items": "none"}), ""


def _cursed(number: int) -> tuple[str, bytes, str]:
    body = _json({"order_id": f"{CURSED}-{number}", "items": ["laptop"]})
    return CREATED, body, f"{CREATED}:{CURSED}-{number}:1"


def _unknown_status(number: int) -> tuple[str, bytes, str]:
    return PROCESSED, _json({"order_id": order_id(0), "status": "lost", "version": 2}), ""


def _unknown_order(number: int) -> tuple[str, bytes, str]:
    body = _json({"order_id": f"unknown-{number}", "status": "success", "version": 2})
    return PROCESSED, body, f"{PROCESSED}:unknown-{number}:2"


def _part_of_an_array(number: int) -> tuple[str, bytes, str]:
    cursed = _json({"order_id": f"{CURSED}-{number}", "items": ["laptop"]})
    return CREATED, b"[" + cursed + b"]", f"{CREATED}:{CURSED}-{number}:1"


def _json(content: object) -> bytes:
    return msgspec.json.encode(content)


_KINDS: tuple[Callable[[int], tuple[str, bytes, str]], ...] = (
    _no_json,
    _wrong_types,
    _cursed,
    _unknown_status,
    _unknown_order,
    _part_of_an_array,
)
