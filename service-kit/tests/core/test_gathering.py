import pytest

from service_kit.gathering import gathering_seconds


@pytest.mark.parametrize(
    ("found", "took_seconds", "waits"),
    [
        (0, 0.02, 0.0),
        (1, 0.02, 0.0),
        (15, 0.02, 0.0),
        (16, 0.02, 0.01),
        (499, 0.02, 0.01),
        (100, 0.009, 0.0),
        (100, 5.0, 0.03),
        (500, 0.02, 0.0),
        (700, 0.02, 0.0),
    ],
)
def test_only_after_a_crowd_that_took_long_and_is_no_backlog_is_there_a_wait(
    found: int, took_seconds: float, waits: float
) -> None:
    assert gathering_seconds(found, enough=500, took_seconds=took_seconds) == pytest.approx(waits)
