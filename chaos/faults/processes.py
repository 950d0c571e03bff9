"""Faults of the services' processes: ended, told to end, stopped for a while."""

import asyncio
import signal
from collections.abc import Callable
from random import Random

from chaos.faults.fault import Fault, Inject
from chaos.stage import SIDES, Side, Stage

_READY_SECONDS = 30.0


def kill(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        """One of the two, now and then both."""
        for victim in random.sample(stage.of(side), random.choice([1, 1, 2])):
            victim.signal(signal.SIGKILL)
            stage.evidence["kills"] += 1
        await asyncio.sleep(0.5)
        for instance in stage.of(side):
            await instance.ready(_READY_SECONDS)

    return inject


def terminate(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        victim = random.choice(stage.of(side))
        before = victim.ended["terminated"]
        await victim.stop()
        await asyncio.sleep(0.5)
        await victim.ready(_READY_SECONDS)
        stage.evidence["drained with exit 0"] += victim.ended["terminated"] - before

    return inject


def stop(side: Side) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        """SIGSTOP for 30 s, or 40 % of a short run; then it goes on as if nothing had been."""
        victim = random.choice(stage.of(side))
        seconds = min(30.0, 0.4 * stage.seconds)
        victim.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            victim.signal(signal.SIGCONT)
        stage.evidence["seconds stopped"] += round(seconds)

    return inject


def _of_each(name: str, story: str, make: Callable[[Side], Inject], evidence: str) -> list[Fault]:
    return [
        Fault(name=f"{name}-{side}", story=story.format(side=side), inject=make(side), bites=(evidence,))
        for side in SIDES
    ]


FAULTS = [
    *_of_each("kill", "kill -9 of one or both processes of {side}-service", kill, "kills"),
    *_of_each(
        "sigterm",
        "SIGTERM of a process of {side}-service, which drains and exits with 0",
        terminate,
        "drained with exit 0",
    ),
    *_of_each("sigstop", "SIGSTOP of a process of {side}-service for up to 30 s", stop, "seconds stopped"),
]
