"""Does one phase after another, and judges after each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from chaos import oracle
from chaos.collect import levels, observed, settled
from chaos.violations import Kind, Violation
from cluster.phases import Effect, Phase
from cluster.recovery import longest_silence
from cluster.stage import Stage, stage

BACK_SECONDS_MAX = 30.0
_WARM_UP_SECONDS, _BEFORE_SECONDS, _AFTER_SECONDS = 5.0, 2.0, 4.0
_SETTLE_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one phase. `unserved`: requests that no instance answered at first. Times are seconds."""

    phase: Phase
    effect: Effect
    accepted: int
    silence: float
    retried: int
    unserved: int
    settled_after: float | None
    violations: list[Violation]

    def count(self, kind: Kind) -> int:
        return sum(violation.kind is kind for violation in self.violations)


async def run(phases: Sequence[Phase], *, per_second: float, seed: int) -> AsyncIterator[Result]:
    """Every answer, row and event since the beginning is judged each time; new violations are told."""
    known: set[str] = set()
    async with stage(per_second=per_second, seed=seed) as staged:
        for phase in phases:
            result = await _run(phase, staged, known)
            known |= {str(violation) for violation in result.violations}
            yield result


async def _run(phase: Phase, staged: Stage, known: set[str]) -> Result:
    clock = asyncio.get_running_loop().time
    load = staged.load
    begun, accepted, retried, unserved = clock(), load.accepted, load.broken, load.unserved
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        group.create_task(staged.poisoner.run())
        await _warmed(staged)
        effect = await phase.do(staged)
        await asyncio.sleep(_AFTER_SECONDS)
        load.stop()
        staged.poisoner.stop()
    is_settled = await settled(staged, within_seconds=_SETTLE_SECONDS_MAX)
    settled_after = clock() - load.stopped_at if is_settled else None
    judged = oracle.violations(await observed(staged, staged.before, is_settled=is_settled))
    unserved = load.unserved - unserved
    found = [*judged, *effect.violations, *promises(phase, effect, unserved=unserved)]
    return Result(
        phase=phase,
        effect=effect,
        accepted=load.accepted - accepted,
        silence=longest_silence(load.answers, begun, load.stopped_at),
        retried=load.broken - retried,
        unserved=unserved,
        settled_after=settled_after,
        violations=[violation for violation in found if str(violation) not in known],
    )


async def _warmed(staged: Stage) -> None:
    await asyncio.sleep(_BEFORE_SECONDS if staged.before else _WARM_UP_SECONDS)
    if not staged.before:
        staged.before = await levels(staged)


def promises(phase: Phase, effect: Effect, *, unserved: int) -> list[Violation]:
    """What is promised of a cluster beyond what the oracle knows."""
    violations: list[Violation] = []
    back = effect.back_after_seconds
    if back is None or back > BACK_SECONDS_MAX:
        violations.append(
            Violation(Kind.WRONG, f"not back within {BACK_SECONDS_MAX:.0f} s", phase.name, str(back))
        )
    if phase.no_failures and unserved:
        violations.append(Violation(Kind.WRONG, "requests failed", phase.name, str(unserved)))
    return violations
