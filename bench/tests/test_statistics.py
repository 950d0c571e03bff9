"""Percentiles and slopes of known values."""

from typing import Any

import pytest

from bench.statistics import median, percentile, percentiles, slope_per_minute, spread


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.001, 1), (0.0, 1)]
)
def test_a_percentile_is_a_value_that_occurred(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([3.0], 0.999) == 3.0


def test_of_nothing_everything_is_zero() -> None:
    assert percentiles([]) == {"p50": 0.0, "p99": 0.0, "p99.9": 0.0}
    assert median([]) == spread([]) == slope_per_minute([]) == 0.0


def test_the_order_of_the_values_does_not_matter() -> None:
    assert percentiles([3.0, 1.0, 2.0])["p50"] == 2.0


def test_the_spread_is_relative_to_the_median() -> None:
    assert spread([90.0, 100.0, 120.0]) == pytest.approx(0.3)
    assert spread([100.0]) == 0.0


@pytest.mark.parametrize(
    ("points", "slope"),
    [([(0, 5), (30, 6), (60, 7)], 2.0), ([(0, 5), (60, 5)], 0.0), ([(1, 5), (1, 7)], 0.0)],
)
def test_a_slope_is_told_by_the_minute(points: Any, slope: float) -> None:
    assert slope_per_minute(points) == pytest.approx(slope)
