"""Percentiles, medians and rates; no input or output."""

from collections.abc import Sequence
from statistics import median as _median

PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of `ordered` (ascending) do not exceed; 0 of nothing."""
    if not ordered:
        return 0.0
    position = -int(-len(ordered) * share // 1)
    return ordered[max(0, min(len(ordered), position) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {name: percentile(ordered, share) for name, share in PERCENTILES.items()}


def median(values: Sequence[float]) -> float:
    return float(_median(values)) if values else 0.0


def spread(values: Sequence[float]) -> float:
    """How far apart the values are: (largest - smallest) / median; 0 when there is nothing to compare."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle and len(values) > 1 else 0.0


def slope_per_minute(points: Sequence[tuple[float, float]]) -> float:
    """By how much the second value of `points` (seconds, value) grows in a minute: least squares."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    width = sum((x - mean_x) ** 2 for x, _ in points)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in points) / width if width else 0.0
