"""Faults of the services' processes: ended, told to end, stopped for a while."""

import asyncio
import signal
from random import Random
from typing import Literal

from chaos.faults.fault import Fault, Inject
from chaos.stage import Stage

Side = Literal["order", "processor"]


def _instances(stage: Stage, side: Side, random: Random) -> list[object]:
    return []


def kill(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        """One of the two, now and then both."""
        instances = stage.orders if side == "order" else stage.processors
        for victim in random.sample(instances, random.choice([1, 1, 2])):
            victim.signal(signal.SIGKILL)
            stage.evidence["kills"] += 1
        await asyncio.sleep(0.5)
        for instance in instances:
            await instance.ready(30)

    return inject


def terminate(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        instances = stage.orders if side == "order" else stage.processors
        victim = random.choice(instances)
        await victim.stop()
        stage.evidence["drained"] = sum(instance.ended["terminated"] for instance in stage.instances)
        await asyncio.sleep(0.5)
        await victim.ready(30)

    return inject


def stop(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        """SIGSTOP for 30 s, or 40 % of a short run; then it goes on as if nothing had been."""
        victim = random.choice(stage.orders if side == "order" else stage.processors)
        seconds = min(30.0, 0.4 * stage.seconds)
        victim.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            victim.signal(signal.SIGCONT)
        stage.evidence["stopped seconds"] += round(seconds)

    return inject


FAULTS = [
    *(
        Fault(
            name=f"kill-{side}",
            story=f"kill -9 of one or both processes of the {side} service",
            inject=kill(side),
            bites=("kills",),
        )
        for side in ("order", "processor")
    ),
    *(
        Fault(
            name=f"sigterm-{side}",
            story=f"SIGTERM of a process of the {side} service, which must drain and exit with 0",
            inject=terminate(side),
            bites=("drained",),
        )
        for side in ("order", "processor")
    ),
    *(
        Fault(
            name=f"sigstop-{side}",
            story=f"SIGSTOP of a process of the {side} service for 30 s",
            inject=stop(side),
            bites=("stopped seconds",),
        )
        for side in ("order", "processor")
    ),
]
