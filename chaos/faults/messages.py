"""Messages that come twice, late, out of order, spoilt, or from another version of the services."""

import asyncio
from random import Random

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage

from chaos.faults.fault import Fault
from chaos.stage import ORDER_QUEUE, PROCESSOR_QUEUE, Stage

# `order.cancelled` has no reader here: no queue would ever take a copy of it.
_EVENTS = """
SELECT new ->> 'event_type' AS type, new ->> 'payload' AS payload, new ->> 'message_id' AS id
FROM chaos_audit
WHERE relation = 'outbox' AND operation = 'INSERT' AND new ->> 'event_type' <> 'order.cancelled'
ORDER BY number DESC LIMIT 400
"""

Copy = tuple[str, bytes, str | None]


async def _published(stage: Stage, count: int, random: Random) -> list[Copy]:
    """Copies of events of both services, of the last seconds, in no order."""
    found: list[Copy] = []
    for name in ("orders", "processor"):
        async with stage.database(name) as connection:
            rows = await connection.fetch(_EVENTS)
        found += [(row["type"], row["payload"].encode(), row["id"]) for row in rows]
    return random.sample(found, min(count, len(found)))


async def duplicates(stage: Stage, random: Random) -> None:
    copies = await _published(stage, 200, random)
    await asyncio.gather(*(stage.bystander.publish_all(copies) for _ in range(3)))
    stage.evidence["copies sent"] += 3 * len(copies)


async def reordered(stage: Stage, random: Random) -> None:
    """A third reader takes its share of both queues, and gives it back late and in another order."""
    held: list[AbstractIncomingMessage] = []

    async def hold(message: AbstractIncomingMessage) -> None:
        held.append(message)

    async with await aio_pika.connect(stage.rabbitmq.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=200)
        for name in (ORDER_QUEUE, PROCESSOR_QUEUE):
            queue = await channel.get_queue(name)
            await queue.consume(hold)
        await asyncio.sleep(random.uniform(1, 3))
        random.shuffle(held)
        stage.evidence["messages held back"] += len(held)
        for message in held:
            await message.nack(requeue=True)


async def poison_batch(stage: Stage, random: Random) -> None:
    """Poison among copies of good events, as fast as it can be sent."""
    poison = stage.poisoner.make(20)
    stage.poisoner.sent += poison
    spoilt = [(key, body, stage.poisoner.message_id(body)) for key, body in poison]
    mixed = [*await _published(stage, 200, random), *spoilt]
    random.shuffle(mixed)
    await stage.bystander.publish_all(mixed)
    stage.evidence["poison in batches"] += len(poison)


async def next_version(stage: Stage, random: Random) -> None:
    """What a newer release may send: fields that we do not know, and a status that we do not know."""
    copies: list[Copy] = []
    for key, body, message_id in await _published(stage, 60, random):
        event = msgspec.json.decode(body)
        later = {**event, "schema": 2, "channel": {"name": "web"}, "items": _newer(event.get("items"))}
        copies.append((key, msgspec.json.encode(later), message_id))
        if key == "order.processed" and random.random() < 0.3:
            body = msgspec.json.encode(
                {**event, "status": "on_hold", "version": 3, "nonce": random.getrandbits(40)}
            )
            stage.poisoner.sent.append((key, body))
            copies.append((key, body, stage.poisoner.message_id(body)))
            stage.evidence["unknown statuses"] += 1
    await stage.bystander.publish_all(copies)
    stage.evidence["events with unknown fields"] += len(copies)


def _newer(items: list[dict[str, object]] | None) -> object:
    return [{**item, "discount": None} for item in items] if items else "none"


FAULTS = [
    Fault(
        name="duplicates",
        story="each of many events delivered three times more, to both readers at once",
        inject=duplicates,
        bites=("copies sent",),
        pause_seconds=1.0,
    ),
    Fault(
        name="reordered",
        story="messages held back by another reader and given back late, in another order",
        inject=reordered,
        bites=("messages held back",),
        pause_seconds=0.5,
    ),
    Fault(
        name="poison-batch",
        story="bursts of good events with poison among them",
        inject=poison_batch,
        bites=("poison in batches", "event_set_aside"),
        pause_seconds=1.0,
    ),
    Fault(
        name="next-version",
        story="a newer release sends too: unknown fields, and a status that is unknown",
        inject=next_version,
        bites=("events with unknown fields", "unknown statuses"),
        pause_seconds=1.0,
    ),
]
