"""The two parts of a fuzz of one service: requests made by schemathesis, and bytes made here."""

import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from fuzz.connection import verdicts
from fuzz.messages import Case, cases, requests_of, streams
from fuzz.stage import Measured, Target
from tools.documents import PROJECT, operations

CONNECTIONS = 64
BY_DESIGN = Path(__file__).with_name("schemathesis.toml")
# Python keeps what it once needed: the warm-up takes that part out of what is compared.
RESIDENT_MIB_MAX, SOCKETS_MAX = 48.0, 10
# The documents tell of services that ask for keys.
OF_KEYS = ("ignored_auth", "missing_required_header")


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Of one service; `requests` is what the service counted, `cases` are connections with raw bytes."""

    name: str
    requests: int = 0
    cases: int = 0
    answers: int = 0
    before: Measured | None = None
    after: Measured | None = None
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        assert self.before and self.after
        memory = f"{self.before.resident_mib:.0f} → {self.after.resident_mib:.0f} MiB"
        statuses = " ".join(f"{status}:{count}" for status, count in sorted(self.after.statuses.items()))
        return (
            f"{self.name}: {self.requests} generated requests, {self.cases} raw connections with "
            f"{self.answers} answers, memory {memory}, {self.after.sockets} sockets, "
            f"{len(self.faults)} faults; all answers by status: {statuses}"
        )


async def fuzz(target: Target, *, requests: int, raw: int, seed: int, folder: Path) -> Outcome:
    """At least `requests` generated ones, by schemathesis with all checks, and `raw` connections."""
    outcome = Outcome(name=target.name)
    warm_up = raw // 10
    await _raw(target, outcome, warm_up, Random(seed))
    await _generated(target, outcome, requests // 10, seed, folder)
    outcome.before = await target.measure()
    await _raw(target, outcome, raw - warm_up, Random(seed + 1))
    await _generated(target, outcome, requests, seed + 1_000, folder)
    outcome.after = await _settled(target)
    outcome.faults += _judged(outcome.before, outcome.after) + target.defects()
    return outcome


async def _settled(target: Target) -> Measured:
    """Once connections that were left open have been closed."""
    for _ in range(100):
        measured = await target.measure()
        if measured.sockets < CONNECTIONS // 2:
            break
        await asyncio.sleep(0.5)
    return measured


def _judged(before: Measured, after: Measured) -> list[str]:
    faults = [f"{count} answers {status}" for status, count in after.statuses.items() if status == 500]
    if after.resident_mib - before.resident_mib > RESIDENT_MIB_MAX:
        faults.append(f"memory grew from {before.resident_mib:.0f} to {after.resident_mib:.0f} MiB")
    if after.sockets - before.sockets > SOCKETS_MAX:
        faults.append(f"open sockets grew from {before.sockets} to {after.sockets}")
    return faults


async def _raw(target: Target, outcome: Outcome, count: int, random: Random) -> None:
    document = await target.openapi()
    waiting = cases(requests_of(document, target.headers), random, count)
    address = urlsplit(target.url)
    assert address.hostname and address.port
    host, port = address.hostname, address.port
    seen: Counter[tuple[str, str]] = Counter()

    async def worker() -> None:
        for case in waiting:
            answers, faults = await verdicts(host, port, case)
            outcome.cases += 1
            outcome.answers += answers
            for words in faults:
                seen[case.kind, words[:60]] += 1
                if seen[case.kind, words[:60]] == 1:
                    outcome.faults.append(_shown(case, words))

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker())


def _shown(case: Case, words: str) -> str:
    data = b"".join(case.pieces)
    text = repr(data if len(data) <= 1_500 else data[:1_000] + b" ... " + data[-400:])
    return f"raw, {case.kind}: {words}\n    after {text}"


async def _generated(target: Target, outcome: Outcome, count: int, seed: int, folder: Path) -> None:
    """Runs of schemathesis with one seed after the other until the service has counted as many requests."""
    document = await target.openapi()
    endless = [
        operation["operationId"] for _, _, operation in operations(document) if streams(operation, document)
    ]
    start = sum((await target.measure()).statuses.values())
    examples = max(2, min(200, count // 150))
    done = 0
    while done < count:
        # One worker: threads that parse Python at once break each other in 3.11 (python/cpython#106905).
        command = [
            *("schemathesis", "--config-file", str(BY_DESIGN), "run", f"{target.url}/openapi.json"),
            "--continue-on-failure",
            *(("--exclude-checks", ",".join(OF_KEYS)) if target.open_to_all else ()),
            *("--max-examples", str(examples), "--seed", str(seed), "--workers", "1", "--no-color"),
            *("--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"),
            *(part for name, value in target.headers for part in ("--header", f"{name}: {value}")),
            *(part for name in endless for part in ("--exclude-operation-id", name)),
        ]
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name(command[0]),
            *command[1:],
            cwd=folder,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "fuzz.serializers", "PYTHONPATH": str(PROJECT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            outcome.faults.append(f"schemathesis, seed {seed}:\n{output.decode(errors='replace')}")
            if sum(fault.startswith("schemathesis") for fault in outcome.faults) >= 3:
                break
        done, seed = sum((await target.measure()).statuses.values()) - start, seed + 1
    outcome.requests += done
