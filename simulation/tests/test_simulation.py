"""The same code as in production, under a virtual clock: known seeds, some new ones, and known bugs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from simulation.batches import hunt
from simulation.mutation_list import MUTATIONS
from simulation.mutations import Edit, Mutation
from simulation.run import simulate

ROOT = Path(__file__).parent.parent.parent
FAILED_ONCE = [
    int(line) for line in (ROOT / "simulation/regressions.txt").read_text().splitlines() if line.isdigit()
]
SEEDS = 2000 if os.environ.get("CI") == "true" else 200
SEEDS_A_TEST = 50
HUNTED_SEEDS = 1000


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_a_seed_that_failed_once_holds(seed: int) -> None:
    assert simulate(seed).violations == []


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_nothing_is_lost_and_nothing_is_done_twice(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        verdict = simulate(seed)
        assert verdict.violations == [], f"run it again: python -m simulation --seed {seed} --trace"
        assert verdict.events >= 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_known_bug_is_caught(mutation: Mutation) -> None:
    """By its known seed on Python 3.11; elsewhere asyncio takes other steps, and one is looked for."""
    caught, _ = hunt(mutation, [mutation.seed, *range(HUNTED_SEEDS)])
    assert caught
    assert simulate(caught.seed).violations == []


def test_an_edit_that_fits_no_more_is_an_error() -> None:
    edit = Edit("service_kit.relay:Relay._publish", "what is nowhere in it", "")
    with pytest.raises(LookupError), Mutation("outdated", 0, [edit]).applied():
        pass


def test_one_seed_is_one_history_whatever_the_hashes_of_strings_are() -> None:
    traces = {_trace_of_seed_17(hash_seed) for hash_seed in ("0", "1", "2")}
    assert len(traces) == 1
    assert len(traces.pop().splitlines()) > 500


def test_two_seeds_are_two_histories() -> None:
    assert simulate(1, keep_trace=True).trace.digest() != simulate(2, keep_trace=True).trace.digest()


def _trace_of_seed_17(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "simulation", "--seed", "17", "--trace"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
