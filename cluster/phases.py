"""What is done to the clusters and to the services, one after another, under load."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos.stage import PROCESSOR_QUEUE, SIDES, Side
from chaos.violations import Kind, Violation
from cluster.recovery import seconds_until_back
from cluster.stage import Stage

_READY_SECONDS_MAX = 60.0
# Longer than a statement may take in the services (30 s): the commits that wait are then given up.
_WITHOUT_STANDBY_SECONDS = 36.0
_NOTICED_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Effect:
    """What was seen of a phase. `back_after_seconds`: None when the service did not come back."""

    seen: str
    back_after_seconds: float | None
    violations: list[Violation] = field(default_factory=list)


Do = Callable[[Stage], Awaitable[Effect]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """`no_failures`: a client that asks the next instance is always answered at once."""

    name: str
    story: str
    do: Do
    no_failures: bool = False


async def leader_killed(staged: Stage) -> Effect:
    """SIGKILL of the node that leads the processor's queue; it stays away until the next phase."""
    leader = await staged.rabbitmq.leader_of(PROCESSOR_QUEUE)
    since = _now()
    await leader.end(signal.SIGKILL)
    back = await seconds_until_back(staged, since)
    new = await staged.rabbitmq.leader_of(PROCESSOR_QUEUE)
    return Effect(seen=f"{leader.node} led, {new.node} leads", back_after_seconds=back)


async def node_back(staged: Stage) -> Effect:
    dead = [node for node in staged.rabbitmq.nodes if not node.running]
    since = _now()
    for node in dead:
        await node.start()
    took = _now() - since
    back = await seconds_until_back(staged, _now())
    return Effect(seen=f"{len(dead)} node started in {took:.1f} s", back_after_seconds=back)


async def postgres_failed_over(staged: Stage) -> Effect:
    """SIGKILL of the primary; the operator notices it and promotes the standby."""
    lost = staged.postgres.primary
    since = _now()
    await lost.kill()
    promoted, back = await asyncio.gather(_promoted(staged, since), seconds_until_back(staged, since))
    seen = f"{lost.name} killed, {staged.postgres.primary.name} promoted after {promoted:.1f} s"
    return Effect(seen=seen, back_after_seconds=back)


async def postgres_rejoined(staged: Stage) -> Effect:
    """The server that was lost is made anew as the synchronous standby, at its old address."""
    since = _now()
    await staged.postgres.rejoin()
    took = _now() - since
    back = await seconds_until_back(staged, _now())
    seen = f"{staged.postgres.standby.name} is a synchronous standby after {took:.1f} s"
    return Effect(seen=seen, back_after_seconds=back)


async def standby_lost_then_failed_over(staged: Stage) -> Effect:
    """The standby is away, so that no commit returns, until clients and services have given up waiting.

    Then the primary dies, and the standby comes back and is promoted: what was only on the primary must not
    have been promised to anybody.
    """
    standby = staged.postgres.standby
    await standby.kill()
    await asyncio.sleep(_WITHOUT_STANDBY_SECONDS)
    since = _now()
    await staged.postgres.primary.kill()
    await standby.start()
    promoted, back = await asyncio.gather(_promoted(staged, since), seconds_until_back(staged, since))
    seen = f"no commit for {_WITHOUT_STANDBY_SECONDS:.0f} s, {standby.name} promoted after {promoted:.1f} s"
    return Effect(seen=seen, back_after_seconds=back)


async def rolling_update(staged: Stage) -> Effect:
    """For each process: start its successor, let clients know of it, SIGTERM the old one."""
    since = _now()
    violations: list[Violation] = []
    exits: list[int | None] = []
    for side in SIDES:
        for _ in range(len(staged.of(side))):
            exits.append(await _replaced(staged, side, violations))
    back = await seconds_until_back(staged, _now())
    drained = sum(code == 0 for code in exits)
    if drained != len(exits):
        violations.append(Violation(Kind.WRONG, "an old process did not drain", str(exits)))
    seen = f"{drained} processes replaced in {_now() - since:.1f} s"
    return Effect(seen=seen, back_after_seconds=back, violations=violations)


async def _replaced(staged: Stage, side: Side, violations: list[Violation]) -> int | None:
    """Replace the oldest process of a service; its exit code."""
    new, old = staged.another(side), staged.of(side)[0]
    new.start()
    staged.of(side).append(new)
    if not await new.ready(_READY_SECONDS_MAX):
        violations.append(Violation(Kind.WRONG, "the new process did not get ready", new.name))
    if side == "order":
        staged.load.urls.append(new.url)
    # As in Kubernetes, clients hear of the end of the old one when it is already at it.
    closing = asyncio.create_task(old.close())
    await asyncio.sleep(_NOTICED_SECONDS)
    if side == "order":
        staged.load.urls.remove(old.url)
    code = await closing
    staged.of(side).remove(old)
    new.ended.update(old.ended)
    return code


async def _promoted(staged: Stage, since: float) -> float:
    await staged.postgres.watch_and_failover()
    return _now() - since


def _now() -> float:
    return asyncio.get_running_loop().time()


PHASES = [
    Phase(name="broker-leader-kill", story="kill -9 of the node that leads a queue", do=leader_killed),
    Phase(name="broker-node-back", story="the node is started again", do=node_back),
    Phase(name="postgres-failover", story="kill -9 of the primary, promotion", do=postgres_failed_over),
    Phase(name="postgres-rejoin", story="the lost server becomes the standby", do=postgres_rejoined),
    Phase(
        name="standby-lost",
        story="the standby dies, 36 s later the primary, and the standby is promoted",
        do=standby_lost_then_failed_over,
    ),
    Phase(name="postgres-rejoin-again", story="as before, the other way round", do=postgres_rejoined),
    Phase(
        name="rolling-update",
        story="each process replaced, one after another",
        do=rolling_update,
        no_failures=True,
    ),
]
