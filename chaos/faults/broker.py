"""Faults of RabbitMQ itself."""

import asyncio
import signal
from random import Random

from chaos.faults.fault import Fault
from chaos.setup import Setup
from chaos.stage import Stage

_SERVICE_QUEUES = r"^(order|processor)-service\."
_LOCK = "LOCK TABLE processed_inbox IN ACCESS EXCLUSIVE MODE"


async def kill(stage: Stage, random: Random) -> None:
    await stage.rabbitmq.end(signal.SIGKILL)
    stage.evidence["broker kills"] += 1
    await asyncio.sleep(random.uniform(0, 2))
    await stage.rabbitmq.start()


async def stop(stage: Stage, random: Random) -> None:
    await stage.rabbitmq.end(signal.SIGTERM)
    stage.evidence["broker stops"] += 1
    await asyncio.sleep(random.uniform(0, 2))
    await stage.rabbitmq.start()


async def memory_alarm(stage: Stage, random: Random) -> None:
    await stage.rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    try:
        await _watch_blocked(stage, 3.0)
    finally:
        await stage.rabbitmq.control("set_vm_memory_high_watermark", "0.6")


async def disk_alarm(stage: Stage, random: Random) -> None:
    await stage.rabbitmq.control("set_disk_free_limit", "100000GB")
    try:
        await _watch_blocked(stage, 3.0)
    finally:
        await stage.rabbitmq.control("set_disk_free_limit", "1MB")


async def publish_refused(stage: Stage, random: Random) -> None:
    policy = '{"max-length": 0, "overflow": "reject-publish"}'
    await stage.rabbitmq.control("set_policy", "--apply-to", "queues", "chaos", _SERVICE_QUEUES, policy)
    try:
        await asyncio.sleep(random.uniform(1, 3))
    finally:
        await stage.rabbitmq.control("clear_policy", "chaos")


async def consumer_timeout(stage: Stage, random: Random) -> None:
    """A batch cannot be committed for longer than RabbitMQ waits for its acknowledgement."""
    before = stage.rabbitmq.log_count("Timeout value used")
    async with (
        stage.database("orders") as orders,
        stage.database("processor") as processor,
        orders.transaction(),
        processor.transaction(),
    ):
        await orders.execute(_LOCK)
        await processor.execute(_LOCK)
        await asyncio.sleep(5)
    stage.evidence["consumer timeouts"] += stage.rabbitmq.log_count("Timeout value used") - before


async def redelivery_storm(stage: Stage, random: Random) -> None:
    for _ in range(3):
        await stage.rabbitmq.control("close_all_connections", "chaos")
        stage.evidence["all connections closed"] += 1


async def _watch_blocked(stage: Stage, seconds: float) -> None:
    """Count how often a service was seen to say that it may not publish."""
    for _ in range(round(seconds / 0.3)):
        problems = await asyncio.gather(*(instance.problems() for instance in stage.instances))
        stage.evidence["blocked by an alarm"] += sum("blocks publishing" in text for text in problems)
        await asyncio.sleep(0.3)


FAULTS = [
    Fault(
        name="broker-kill",
        story="kill -9 of RabbitMQ, started again",
        inject=kill,
        bites=("broker kills", "broker_lost"),
    ),
    Fault(
        name="broker-stop",
        story="RabbitMQ stopped in order, started again",
        inject=stop,
        bites=("broker stops", "broker_lost"),
    ),
    Fault(
        name="memory-alarm",
        story="RabbitMQ out of memory: it blocks all publishers",
        inject=memory_alarm,
        bites=("blocked by an alarm",),
    ),
    Fault(
        name="disk-alarm",
        story="RabbitMQ out of disk: it blocks all publishers",
        inject=disk_alarm,
        bites=("blocked by an alarm",),
    ),
    Fault(
        name="publish-refused",
        story="queues full by policy (`reject-publish`): every publish is nacked",
        inject=publish_refused,
        bites=("route_closed",),
    ),
    Fault(
        name="consumer-timeout",
        story="batches held for 5 s where RabbitMQ waits 2 s for an acknowledgement",
        inject=consumer_timeout,
        bites=("consumer timeouts", "broker_lost"),
        setup=Setup(rabbitmq_terms={"channel_tick_interval": "500", "consumer_timeout": "2000"}),
    ),
    Fault(
        name="redelivery-storm",
        story="RabbitMQ closes all connections again and again, and delivers all over",
        inject=redelivery_storm,
        bites=("all connections closed", "broker_lost"),
        pause_seconds=1.0,
    ),
]
