"""How a replay goes on, without any table."""

from dataclasses import replace

import pytest

from service_kit.admin.replay_progress import Finish, HandOver, Progress, Stop, Wait, next_move


def progress(total: int, **fields: object) -> Progress:
    beginning = Progress(
        state="running",
        total=total,
        handled=0,
        skipped=0,
        failed=0,
        in_flight=0,
        step=1,
        step_size=1,
        step_taken=0,
        step_ended=0,
        step_failed=0,
        per_second=1000.0,
        failure_share_max=0.1,
    )
    return replace(beginning, **fields)  # type: ignore[arg-type]


def through(now: Progress, outcome: str) -> list[int]:
    """The sizes of the steps of a replay in which each letter has this outcome."""
    steps: dict[int, int] = {}
    while True:
        now, move = next_move(now)
        if not isinstance(move, HandOver):
            assert isinstance(move, Finish | Stop)
            return list(steps.values())
        steps[now.step] = steps.get(now.step, 0) + move.count
        now = now.handed_over(move.count).after([(outcome, now.step)] * move.count)


@pytest.mark.parametrize(
    ("total", "steps"),
    [(1, [1]), (2, [1, 1]), (11, [1, 10]), (12, [1, 10, 1]), (500, [1, 10, 100, 100, 100, 100, 89])],
)
def test_steps_grow_from_one_to_ten_to_a_hundred(total: int, steps: list[int]) -> None:
    assert through(progress(total), "handled") == steps


def test_what_was_done_before_counts_as_done() -> None:
    assert through(progress(12), "skipped") == [1, 10, 1]


def test_a_first_letter_that_fails_stops_it() -> None:
    assert through(progress(500), "failed") == [1]


def test_all_may_fail_if_it_is_allowed() -> None:
    assert through(progress(12, failure_share_max=1.0), "failed") == [1, 10, 1]


def test_a_step_waits_for_all_its_outcomes() -> None:
    now, move = next_move(
        progress(500, step=2, step_size=10, step_taken=10, step_ended=9, in_flight=1, handled=10)
    )

    assert isinstance(move, Wait)
    assert now.step == 2


@pytest.mark.parametrize(("failed", "stops"), [(0, False), (1, False), (2, True)])
def test_the_share_that_failed_is_of_the_step_alone(failed: int, stops: bool) -> None:
    step = progress(
        500, step=2, step_size=10, step_taken=10, step_ended=10, step_failed=failed, failed=failed
    )

    now, move = next_move(replace(step, handled=11 - failed))

    assert (now.state == "stopped") == isinstance(move, Stop) == stops


def test_it_stops_in_the_middle_of_a_step_as_soon_as_the_share_is_certain() -> None:
    step = progress(500, step=3, step_size=100, step_taken=30, step_ended=20, step_failed=11, in_flight=10)

    now, move = next_move(replace(step, failed=11, handled=20))

    assert move == Stop("11 of 100 letters of step 3 failed: more than 10%")
    assert now.in_flight == 10


@pytest.mark.parametrize(
    ("per_second", "count", "pause_seconds"),
    [(0.5, 1, 2.0), (1, 1, 1.0), (10, 1, 0.1), (100, 10, 0.1), (105, 11, 11 / 105), (10_000, 100, 0.01)],
)
def test_letters_go_out_in_slices_at_the_chosen_rate(
    per_second: float, count: int, pause_seconds: float
) -> None:
    _, move = next_move(progress(500, per_second=per_second, step=3, step_size=100))

    assert isinstance(move, HandOver)
    assert move.count == count
    assert move.pause_seconds == pytest.approx(pause_seconds)


@pytest.mark.parametrize("state", ["paused", "stopped", "cancelled", "finished"])
def test_nothing_is_handed_over_unless_it_runs(state: str) -> None:
    assert next_move(progress(500, state=state))[1] == Wait(None)
    assert next_move(progress(500, state=state, in_flight=3))[1] == Wait(0.05)


def test_it_looks_more_and_more_seldom_while_nothing_changes() -> None:
    waits = [
        next_move(progress(1, in_flight=1, step_taken=1, idle_seconds=idle))[1] for idle in (0, 1, 4, 3600)
    ]

    assert waits == [Wait(0.05), Wait(0.25), Wait(1.0), Wait(2.0)]


def test_outcomes_of_an_earlier_step_count_for_the_whole_and_not_for_this_step() -> None:
    now = progress(500, step=5, in_flight=2).after([("failed", 4), ("handled", 4)])

    assert (now.failed, now.handled, now.in_flight, now.step_failed, now.step_ended) == (1, 1, 0, 0, 0)
    assert isinstance(next_move(now)[1], HandOver)
