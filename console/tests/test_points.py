from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from order_console.points import flow_points, milliseconds
from order_processor_client.admin_models import Flow

START = datetime(2026, 11, 24, 14, tzinfo=UTC)
AT = milliseconds(START)


def flow(now: float, *samples: float, seconds: float = 1.0) -> Flow:
    """With ten orders a second, at so many seconds after the start."""
    given: dict[str, Any] = {
        "now": (START + timedelta(seconds=now)).isoformat(),
        "samples": [
            {
                "at": (START + timedelta(seconds=at)).isoformat(),
                "seconds": seconds,
                "accepted": 10 * seconds,
                "done": 0,
                "failed": 0,
            }
            for at in samples
        ],
    }
    return msgspec.convert(given, Flow, strict=False)


def accepted(after: float, flow: Flow) -> dict[int, float | None]:
    """By the second, from the start."""
    points = flow_points(int(AT + after * 1000), flow)
    return {round(((point["at"] or 0) - AT) / 1000): point["accepted"] for point in points}


def test_samples_are_told_by_the_second() -> None:
    assert accepted(0, flow(4, 1, 2, 3, seconds=0.5)) == {1: 10, 2: 10, 3: 10}


def test_what_was_told_is_not_told_again() -> None:
    assert accepted(2, flow(4, 1, 2, 3)) == {3: 10}


def test_seconds_in_which_nothing_happened_are_told_too() -> None:
    assert accepted(0, flow(7, 1, 6)) == {1: 10, 2: 0, 3: 0, 4: 0, 5: 0, 6: 10}


def test_one_second_without_a_sample_is_no_pause() -> None:
    assert accepted(0, flow(6, 1, 3, 4, 5)) == {1: 10, 3: 10, 4: 10, 5: 10}


def test_a_sample_of_many_seconds_fills_them() -> None:
    assert accepted(0, flow(11, 1, 10, seconds=9)) == {1: 10, 10: 10}


def test_the_last_seconds_may_still_come() -> None:
    assert accepted(1, flow(9)) == {2: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    assert accepted(1, flow(5)) == {}


def test_the_first_look_goes_back_a_quarter_of_an_hour() -> None:
    points = flow_points(0, flow(0))

    assert len(points) == 897 and {point["accepted"] for point in points} == {0}
