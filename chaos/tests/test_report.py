"""The table of the last runs, in the terminal and on the page."""

from pathlib import Path

import pytest

from chaos.faults import FAULTS, PAIRS
from chaos.report import BEGIN, END, with_table
from chaos.results import Result, append, read


def _result(**changes: object) -> Result:
    values: dict[str, object] = {
        "faults": ["broker-kill", "kill-order"],
        "seed": 7,
        "seconds": 60.0,
        "evidence": {"broker kills": 3, "broker_lost": 12},
        "bit": True,
        "accepted": 4321,
        "lost": 0,
        "duplicated": 0,
        "wrong": 0,
        "recovered_after_seconds": 2.25,
        "violations": [],
        "finished_at": "2026-01-02T03:04:05+00:00",
        "versions": {"PostgreSQL": "15"},
        "took_seconds": 80.0,
    }
    return Result(**(values | changes))  # type: ignore[arg-type]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = [_result(), _result(seed=8, recovered_after_seconds=None)]
    for result in results:
        append(tmp_path / "runs.jsonl", result)
    assert read(tmp_path / "runs.jsonl") == results


def test_the_page_gets_a_row_for_each_run_and_the_sums() -> None:
    page = with_table(
        f"before\n{BEGIN}\nold\n{END}\nafter\n", [_result(), _result(lost=2, violations=["a", "b"])]
    )
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "old" not in page
    assert "2 configurations" in page and "8,642 accepted orders: 2 lost, 0 duplicated" in page
    assert "1 of 2 passed" in page
    assert page.count("| `broker-kill+kill-order` | kill -9 of RabbitMQ") == 2
    assert with_table(page, []).count(BEGIN) == 1


def test_a_page_without_its_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="marks"):
        with_table("nothing", [])


@pytest.mark.parametrize(
    ("changes", "passed"),
    [({}, True), ({"bit": False}, False), ({"violations": ["lost: an order"]}, False)],
)
def test_a_run_passes_when_all_held_and_the_fault_was_seen(changes: dict[str, object], passed: bool) -> None:
    assert _result(**changes).passed is passed


def test_a_result_says_how_to_run_it_again() -> None:
    assert _result().command == "make chaos FAULTS=broker-kill+kill-order SEED=7 SECONDS=60"


def test_there_are_forty_configurations_and_each_is_of_known_faults() -> None:
    assert len(FAULTS) + len(PAIRS) >= 40
    assert all(name in FAULTS for pair in PAIRS for name in pair)
