"""A changed rules file comes into force without a restart, and a broken one does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from processor_service.application.ports import RulesNotReloaded
from processor_service.application.read_ruleset import InvalidRules
from processor_service.infrastructure.policies import CallablePolicy, FixedRules, RulesetPolicy
from processor_service.infrastructure.rules_file import RulesFile, read_rules
from service_kit.testing.eventually import eventually

Lines = list[Any]


def toml(reason: str) -> str:
    return f'[[rules]]\nskus = ["piano"]\nfail_reason = "{reason}"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(toml("first"))
    return path


@pytest.fixture
def policy(path: Path) -> RulesetPolicy:
    return RulesetPolicy(read_rules(path, 0.5), Random(1), source=str(path))


@pytest.fixture
def problems() -> list[bool]:
    return []


@pytest.fixture
async def rules(policy: RulesetPolicy, path: Path, problems: list[bool]) -> AsyncIterator[RulesFile]:
    """Looks at the file every few milliseconds."""
    rules = RulesFile(policy, path, on_problem=problems.append, interval_seconds=0.005)
    running = asyncio.create_task(rules.run())
    yield rules
    rules.stop()
    await running


def reason_of(policy: RulesetPolicy) -> str:
    return policy.ruleset.rules[0].fail_reason


async def comes(lines: Lines, event: str) -> None:
    await eventually(lambda: event in [line["event"] for line in lines])


async def test_a_new_content_comes_into_force(rules: RulesFile, policy: RulesetPolicy, path: Path) -> None:
    before = rules.in_force()

    with capture_logs() as lines:
        path.write_text(toml("second"))
        await eventually(lambda: reason_of(policy) == "second")

    now = rules.in_force()
    assert now.version != before.version
    assert now.loaded_at > before.loaded_at
    assert (now.source, now.success_rate, now.problem) == (str(path), 0.5, None)
    [line] = lines
    assert (line["event"], line["before"], line["version"]) == ("rules_reloaded", before.version, now.version)


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda path: path.write_text("not TOML"), "line 1"),
        (lambda path: path.write_text(""), "no tables"),
        (lambda path: path.write_text('[[rules]]\nskus = ["a"]'), "rule 1: fail_reason is missing"),
        (lambda path: path.unlink(), "cannot read"),
    ],
)
async def test_a_broken_file_leaves_the_rules_and_is_told_once(
    rules: RulesFile,
    policy: RulesetPolicy,
    path: Path,
    problems: list[bool],
    breaks: Callable[[Path], object],
    words: str,
) -> None:
    with capture_logs() as lines:
        breaks(path)
        await comes(lines, "rules_file_broken")
        for _ in range(3):
            await rules.run_once()

    assert reason_of(policy) == "first"
    assert words in (rules.in_force().problem or "")
    assert problems[-1] is True
    assert [(line["event"], line["log_level"]) for line in lines] == [("rules_file_broken", "error")]

    path.write_text(toml("mended"))
    await eventually(lambda: reason_of(policy) == "mended")
    assert rules.in_force().problem is None
    assert problems[-1] is False


async def test_a_file_that_is_mended_to_what_it_was_is_no_problem_any_more(
    rules: RulesFile, path: Path
) -> None:
    version = rules.in_force().version
    path.write_text("oops")
    await eventually(lambda: rules.in_force().problem)

    path.write_text(toml("first"))

    await eventually(lambda: rules.in_force().problem is None)
    assert rules.in_force().version == version


async def test_a_file_that_is_being_written_is_left_alone(policy: RulesetPolicy, path: Path) -> None:
    """Half a file can be a ruleset too: a content counts when it was there at two looks."""
    rules = RulesFile(policy, path, on_problem=lambda _: None, interval_seconds=0)
    for reason in ("half", "three quarters", "whole"):
        path.write_text(toml(reason))
        await rules.run_once()
    assert reason_of(policy) == "first"

    await rules.run_once()

    assert reason_of(policy) == "whole"


async def test_who_does_not_want_to_wait_reloads_at_once(policy: RulesetPolicy, path: Path) -> None:
    rules = RulesFile(policy, path, on_problem=lambda _: None)
    path.write_text(toml("second"))

    await rules.reload()

    assert reason_of(policy) == "second"
    path.write_text("oops")
    with pytest.raises(InvalidRules):
        await rules.reload()
    path.unlink()
    with pytest.raises(RulesNotReloaded):
        await rules.reload()
    assert reason_of(policy) == "second"


async def test_rules_without_a_file_are_told_and_not_reloaded() -> None:
    def decide(_: object) -> None: ...

    rules = FixedRules(CallablePolicy(decide, name="shop:decide"))

    told = rules.in_force()
    assert (told.policy, told.version, told.rules) == ("shop:decide", "shop:decide", ())
    with pytest.raises(RulesNotReloaded):
        await rules.reload()
