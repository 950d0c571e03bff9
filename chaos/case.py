"""One run: which faults, which seed, how long."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from random import Random

from chaos import oracle
from chaos.collect import levels, observed, settled
from chaos.faults import FAULTS
from chaos.faults.fault import Fault
from chaos.observed import Level
from chaos.results import Result
from chaos.setup import Setup
from chaos.stage import Stage, stage
from chaos.violations import Kind, Violation

_WARM_UP_SECONDS = 2.0
_SETTLE_SECONDS_MAX = 150.0
_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    faults: Sequence[str]
    seed: int
    seconds: float

    @property
    def name(self) -> str:
        return "+".join(self.faults)


async def run(case: Case) -> Result:
    """Start everything, do the faults for `seconds`, wait until all has settled, and judge."""
    faults = [FAULTS[name] for name in case.faults]
    setup = Setup()
    for fault in faults:
        setup = setup | fault.setup
    clock = asyncio.get_running_loop().time
    begun = clock()
    async with stage(setup, seed=case.seed, seconds=case.seconds) as staged:
        before = await _under_load(staged, faults, Random(case.seed))
        healed_at = staged.load.stopped_at
        is_settled = await settled(staged, within_seconds=_SETTLE_SECONDS_MAX)
        recovered = clock() - healed_at if is_settled else None
        found = oracle.violations(await observed(staged, before, is_settled=is_settled))
        evidence = _evidence(staged)
        versions = await _versions(staged)
    accepted, took = staged.load.accepted, clock() - begun
    return _result(case, faults, evidence, found, accepted, recovered, took, versions)


async def _under_load(staged: Stage, faults: Sequence[Fault], random: Random) -> dict[str, Level]:
    """Do the faults; return the services' levels before."""
    async with asyncio.TaskGroup() as group:
        group.create_task(staged.load.run())
        group.create_task(staged.poisoner.run())
        await asyncio.sleep(_WARM_UP_SECONDS)
        before = await levels(staged)
        await _do_all(faults, staged, random)
        staged.load.stop()
        staged.poisoner.stop()
    return before


async def _do_all(faults: Sequence[Fault], staged: Stage, random: Random) -> None:
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(_do(fault, staged, Random(random.random())))


async def _do(fault: Fault, staged: Stage, random: Random) -> None:
    """Again and again until the time is over; the last time is brought to its end."""
    clock = asyncio.get_running_loop().time
    ends_at = clock() + staged.seconds
    while clock() < ends_at:
        await fault.inject(staged, random)
        staged.evidence["times"] += 1
        await asyncio.sleep(fault.pause_seconds * random.uniform(0.5, 1.5))


async def _versions(staged: Stage) -> dict[str, str]:
    async with staged.database("postgres") as connection:
        postgres = str(await connection.fetchval("SHOW server_version")).split()[0]
    ours = version("order-processor")
    return {"order-processor": ours, "PostgreSQL": postgres, "RabbitMQ": staged.rabbitmq.version()}


def _evidence(staged: Stage) -> dict[str, int]:
    evidence = Counter(staged.evidence)
    evidence["503"] = staged.load.refused[503]
    evidence["broken requests"] = staged.load.broken
    evidence["restarts"] = sum(instance.starts - 1 for instance in staged.instances)
    for proxy in [*staged.proxies, *staged.doors]:
        evidence.update({what: count for what, count in proxy.counts.items() if what != "connections"})
    for instance in staged.instances:
        evidence.update(instance.events())
    return {what: count for what, count in evidence.items() if count}


def _result(
    case: Case,
    faults: Sequence[Fault],
    evidence: dict[str, int],
    found: Sequence[Violation],
    accepted: int,
    recovered: float | None,
    took: float,
    versions: dict[str, str],
) -> Result:
    kinds = Counter(violation.kind for violation in found)
    return Result(
        faults=list(case.faults),
        seed=case.seed,
        seconds=case.seconds,
        evidence=evidence,
        bit=all(evidence.get(what) for fault in faults for what in fault.bites),
        accepted=accepted,
        lost=kinds[Kind.LOST],
        duplicated=kinds[Kind.DUPLICATED],
        wrong=kinds[Kind.WRONG],
        recovered_after_seconds=recovered,
        violations=[str(violation) for violation in found[:_SHOWN_MAX]],
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions,
        took_seconds=took,
    )


def failed(case: Case, error: Exception) -> Result:
    """Of a run that did not come to its end."""
    violation = Violation(Kind.WRONG, "the run itself failed", type(error).__name__, str(error))
    return _result(case, [], {}, [violation], 0, None, 0.0, {})
