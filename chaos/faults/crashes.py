"""Processes that kill themselves at one exact place in their code (`service_kit.failpoints`)."""

import asyncio
from random import Random

from chaos.faults.fault import Fault, Inject
from chaos.stage import SIDES, Side, Stage
from service_kit import failpoints

_DEATH_SECONDS_MAX = 15.0
_PASSAGES_MAX = 12
_PLACES = {
    "publish": ("publisher.sent", "after a batch was written to RabbitMQ, before any confirm"),
    "confirm": ("relay.confirmed", "after the confirms, before the rows leave the outbox"),
    "removal": ("relay.removed", "after the rows left the outbox, before that is committed"),
    "before-ack": ("consumer.handled", "after a batch was handled, before its acknowledgement"),
    "after-ack": ("consumer.acknowledged", "after a batch's acknowledgement was written"),
}


def crash(side: Side, point: str) -> Inject:
    async def inject(stage: Stage, random: Random) -> None:
        """One process is started armed, dies by itself, and is started again as it was."""
        victim = random.choice(stage.of(side))
        before = victim.ended["failpoint"]
        victim.next_environment({failpoints.VARIABLE: f"{point}:{random.randint(1, _PASSAGES_MAX)}"})
        await victim.stop()
        try:
            async with asyncio.timeout(_DEATH_SECONDS_MAX):
                while victim.ended["failpoint"] == before:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await victim.stop()
        stage.evidence["deaths at the point"] += victim.ended["failpoint"] - before
        await victim.ready(30)

    return inject


def _fault(name: str, side: Side, point: str, when: str) -> Fault:
    return Fault(
        name=f"crash-{name}-{side}",
        story=f"{side}-service dies {when}",
        inject=crash(side, point),
        bites=("deaths at the point",),
        pause_seconds=0.5,
    )


FAULTS = [
    _fault("intake", "order", "intake.committed", "after orders were committed, before they are answered"),
    _fault(
        "cancelling",
        "order",
        "unit_of_work.uncommitted",
        "after a cancellation was written, before its commit",
    ),
    _fault(
        "handling",
        "processor",
        "decided_orders.unrecorded",
        "after a batch was decided, before that is recorded",
    ),
    _fault("commit", "order", "results.committed", "after the commit of a batch's effects"),
    _fault("commit", "processor", "decided_orders.recorded", "after the commit of a batch's decisions"),
    *(_fault(name, side, point, when) for name, (point, when) in _PLACES.items() for side in SIDES),
]
