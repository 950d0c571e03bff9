import pytest

from service_kit.gathering import gathering_seconds


@pytest.mark.parametrize(
    ("found", "took_seconds", "waits"),
    [
        (0, 0.01, 0.0),
        (1, 0.01, 0.0),
        (15, 0.01, 0.0),
        (16, 0.01, 0.01),
        (499, 0.01, 0.01),
        (100, 5.0, 0.03),
        (500, 0.01, 0.0),
        (700, 0.01, 0.0),
    ],
)
def test_only_a_crowd_that_is_no_backlog_is_waited_for_and_never_for_long(
    found: int, took_seconds: float, waits: float
) -> None:
    assert gathering_seconds(found, enough=500, took_seconds=took_seconds) == waits
