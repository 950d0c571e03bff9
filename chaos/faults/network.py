"""Faults of the network, done by the proxies between services, servers and clients."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from chaos.faults.fault import Fault
from chaos.proxy import Proxy
from chaos.setup import Setup
from chaos.stage import Stage

_BASIC_PUBLISH = b"\x00\x3c\x00\x28"


async def _lose_answers(
    proxies: Sequence[Proxy], marks: Sequence[bytes], share: float, random: Random
) -> None:
    """For two seconds, of what holds one of `marks` a share arrives whose answer does not."""
    for proxy in proxies:
        proxy.tap = lambda data: random.random() < share and any(mark in data for mark in marks)
    try:
        await asyncio.sleep(2)
    finally:
        for proxy in proxies:
            proxy.tap = None


async def confirm_lost(stage: Stage, random: Random) -> None:
    await _lose_answers([*stage.brokers.values()], [_BASIC_PUBLISH], 0.1, random)


async def commit_answer_lost(stage: Stage, random: Random) -> None:
    await _lose_answers([*stage.databases.values()], [b"COMMIT", b'"order_id"'], 0.05, random)


async def client_answer_lost(stage: Stage, random: Random) -> None:
    await _lose_answers(stage.doors, [b"POST "], 0.1, random)


async def broker_half_open(stage: Stage, random: Random) -> None:
    await _silence([random.choice([*stage.brokers.values()])], 8.0)


async def database_half_open(stage: Stage, random: Random) -> None:
    await _silence([random.choice([*stage.databases.values()])], min(35.0, 0.5 * stage.seconds))


async def _silence(proxies: Sequence[Proxy], seconds: float) -> None:
    for proxy in proxies:
        proxy.hush()
    try:
        await asyncio.sleep(seconds)
    finally:
        for proxy in proxies:
            proxy.speak()


async def orphaned(stage: Stage, random: Random) -> None:
    await random.choice([*stage.databases.values()]).orphan(random.uniform(1, 4))


async def unreachable(stage: Stage, random: Random) -> None:
    proxy = random.choice(stage.proxies)
    proxy.refuse()
    proxy.reset()
    try:
        await asyncio.sleep(random.uniform(1, 4))
    finally:
        await proxy.open()


async def slow(stage: Stage, random: Random) -> None:
    for proxy in stage.proxies:
        proxy.delay_seconds = 0.2
    try:
        await asyncio.sleep(random.uniform(0.3, 0.6) * stage.seconds)
    finally:
        for proxy in stage.proxies:
            proxy.delay_seconds = 0.0


async def sliced(stage: Stage, random: Random) -> None:
    for proxy in stage.proxies:
        proxy.sliced_bytes = 200
    try:
        await asyncio.sleep(3)
    finally:
        for proxy in stage.proxies:
            proxy.sliced_bytes = 0


async def reset_storm(stage: Stage, random: Random) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            while True:
                random.choice(stage.proxies).reset()
                await asyncio.sleep(random.uniform(0.05, 0.3))


FAULTS = [
    Fault(
        name="confirm-lost",
        story="publishes arrive, and the connection breaks before their confirms come back",
        inject=confirm_lost,
        bites=("answers lost", "broker_lost"),
    ),
    Fault(
        name="commit-answer-lost",
        story="commits are done, and the connection breaks before the answer comes back",
        inject=commit_answer_lost,
        bites=("answers lost",),
    ),
    Fault(
        name="client-answer-lost",
        story="orders are taken, and the client's connection breaks before the answer comes back",
        inject=client_answer_lost,
        bites=("answers lost", "broken requests"),
    ),
    Fault(
        name="broker-half-open",
        story="a service's connections to RabbitMQ fall silent for 8 s; heartbeats of 2 s",
        inject=broker_half_open,
        bites=("swallowed", "broker_lost"),
        setup=Setup(rabbitmq=("heartbeat = 2",)),
    ),
    Fault(
        name="database-half-open",
        story="a service's connections to PostgreSQL fall silent for up to 35 s",
        inject=database_half_open,
        bites=("swallowed",),
    ),
    Fault(
        name="database-orphans",
        story="connections break for the service alone: PostgreSQL holds their transactions on for seconds",
        inject=orphaned,
        bites=("orphaned sessions",),
    ),
    Fault(
        name="unreachable",
        story="RabbitMQ or PostgreSQL refuses one service for seconds",
        inject=unreachable,
        bites=("resets",),
    ),
    Fault(name="slow-network", story="200 ms each way, everywhere", inject=slow, bites=("delayed",)),
    Fault(
        name="byte-slices",
        story="the first 200 bytes of every chunk arrive one by one, everywhere",
        inject=sliced,
        bites=("slices",),
        setup=Setup(per_second=40.0),
    ),
    Fault(
        name="reset-storm",
        story="connections broken by RST, many a second",
        inject=reset_storm,
        bites=("resets", "broker_lost"),
    ),
]
