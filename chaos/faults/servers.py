"""Faults of the servers: killed, stopped, out of memory or disk."""

import asyncio
import signal
from random import Random

from chaos.faults.fault import Fault
from chaos.stage import Stage


async def broker_killed(stage: Stage, random: Random) -> None:
    await stage.rabbitmq.end(signal.SIGKILL)
    stage.evidence["broker kills"] += 1
    await asyncio.sleep(random.uniform(0, 2))
    await stage.rabbitmq.start()


async def postgres_stopped(stage: Stage, random: Random) -> None:
    await stage.postgres.end(signal.SIGQUIT)
    stage.evidence["database stops"] += 1
    await asyncio.sleep(random.uniform(0, 2))
    await stage.postgres.start()


FAULTS = [
    Fault(
        name="broker-kill",
        story="kill -9 of RabbitMQ, started again",
        inject=broker_killed,
        bites=("broker kills", "broker_lost"),
    ),
    Fault(
        name="postgres-immediate",
        story="PostgreSQL stopped at once, recovering at its start",
        inject=postgres_stopped,
        bites=("database stops", "503"),
    ),
]
