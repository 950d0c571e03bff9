"""Medians over the runs of a scenario, whatever of it was measured."""

from collections.abc import Sequence
from typing import Any

from bench import statistics
from bench.results import Results


class Measured:
    """The runs of one scenario. A path leads to a figure: `("connections", "64", "rate")`."""

    def __init__(self, results: Results, name: str) -> None:
        self.runs: Sequence[dict[str, Any]] = results.runs.get(name, [])

    def __bool__(self) -> bool:
        return bool(self.runs)

    def all(self, *path: str) -> list[float]:
        found = [_at(run, path) for run in self.runs]
        return [float(value) for value in found if isinstance(value, int | float)]

    def median(self, *path: str) -> float | None:
        values = self.all(*path)
        return statistics.median(values) if values else None

    def spread(self, *path: str) -> float:
        return statistics.spread(self.all(*path))

    def parts(self, *path: str) -> dict[str, float]:
        """The medians of a table of figures, such as CPU by part."""
        tables = [table for run in self.runs if isinstance(table := _at(run, path), dict)]
        names = list(dict.fromkeys(name for table in tables for name in table))
        return {name: self.median(*path, name) or 0.0 for name in names}

    def keys(self, *path: str) -> list[str]:
        table = _at(self.runs[-1], path) if self.runs else None
        return list(table) if isinstance(table, dict) else []

    def names(self) -> list[str]:
        """Of the figures at the top."""
        return list(self.runs[-1]) if self.runs else []

    def last(self, *path: str) -> Any:
        return _at(self.runs[-1], path) if self.runs else None


def _at(run: Any, path: Sequence[str]) -> Any:
    for step in path:
        run = run.get(step) if isinstance(run, dict) else None
    return run
