"""A few faults done for some seconds: the subset that CI runs; `make chaos FAULTS=all` runs the rest."""

import os

import pytest

from chaos import programs
from chaos.case import Case, run

CASES = [
    ("crash-confirm-processor", "duplicates"),
    ("broker-kill",),
    ("postgres-immediate", "kill-order"),
    ("queue-deleted",),
]
SECONDS = 5.0
CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    try:
        programs.rabbitmq_folder(), programs.epmd()
    except programs.NotInstalled as missing:
        if CI:
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("faults", CASES if CI else CASES[:1], ids="+".join)
async def test_nothing_is_lost_and_nothing_is_done_twice(faults: tuple[str, ...]) -> None:
    result = await run(Case(faults=faults, seed=7, seconds=SECONDS))
    assert result.violations == [], result.command
    assert result.bit, result.evidence
    assert result.accepted > 100
