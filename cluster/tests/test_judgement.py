"""What the test itself adds to the oracle of chaos."""

import asyncio

import pytest

from chaos.answers import Answer
from chaos.violations import Kind
from cluster.phases import PHASES, Effect, Phase
from cluster.recovery import longest_silence
from cluster.run import BACK_SECONDS_MAX, Result, promises
from cluster.stage import Stage
from cluster.table import cells


async def _nothing(_: Stage) -> Effect:
    return Effect(seen="nothing", back_after_seconds=0.0)


QUIET = Phase(name="quiet", story="nothing happens", do=_nothing, no_failures=True)
TOLERANT = Phase(name="tolerant", story="nothing happens", do=_nothing)


def answered(at: float, *, status: int = 201, content: str | None = "c") -> Answer:
    return Answer(
        order_id="a", content=content, status=status, replayed=False, order=None, asked_at=at, answered_at=at
    )


def test_a_service_that_is_back_in_time_keeps_its_promises() -> None:
    effect = Effect(seen="", back_after_seconds=BACK_SECONDS_MAX)
    assert promises(QUIET, effect, unserved=0) == []


@pytest.mark.parametrize("back", [None, BACK_SECONDS_MAX + 0.1])
def test_a_service_that_is_back_late_or_never_is_a_violation(back: float | None) -> None:
    [violation] = promises(QUIET, Effect(seen="", back_after_seconds=back), unserved=0)
    assert violation.rule == "not back within 30 s"


def test_a_failed_request_is_a_violation_where_none_may_fail() -> None:
    effect = Effect(seen="", back_after_seconds=1.0)
    [violation] = promises(QUIET, effect, unserved=1)
    assert (violation.kind, violation.rule) == (Kind.WRONG, "requests failed")
    assert promises(TOLERANT, effect, unserved=1) == []


def test_silence_is_measured_from_the_beginning_to_the_end() -> None:
    answers = [answered(12.0), answered(14.0), answered(15.0, status=503), answered(16.0, content=None)]
    assert longest_silence(answers, 10.0, 15.0) == 2.0
    assert longest_silence(answers, 10.0, 18.0) == 4.0
    assert longest_silence([], 10.0, 13.0) == 3.0


def test_phases_have_names_of_their_own() -> None:
    assert len({phase.name for phase in PHASES}) == len(PHASES)


def test_what_never_came_back_is_called_so_in_the_table() -> None:
    effect = asyncio.run(_nothing(None))  # type: ignore[arg-type]
    effect.back_after_seconds = None
    result = Result(
        phase=QUIET,
        effect=effect,
        accepted=1234,
        silence=1.04,
        retried=2,
        unserved=0,
        settled_after=None,
        violations=promises(QUIET, effect, unserved=0),
    )
    assert cells(result) == ["quiet", "1,234", "never", "1.0 s", "2", "0", "never", "0", "0", "1"]
