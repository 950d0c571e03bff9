"""The table at the end."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.violations import Kind
from cluster.run import Result

_COLUMNS = (
    ("phase", "left"),
    ("accepted", "right"),
    ("back after", "right"),
    ("silence", "right"),
    ("retried", "right"),
    ("failed", "right"),
    ("settled", "right"),
    ("lost", "right"),
    ("twice", "right"),
    ("wrong", "right"),
)
_SHOWN_MAX = 20
_WIDTH_MIN = 118


def print_table(results: Sequence[Result], seed: int) -> None:
    accepted = sum(result.accepted for result in results)
    table = Table(title=f"{len(results)} phases, {accepted:,} accepted orders, seed {seed}")
    for column, justify in _COLUMNS:
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for result in results:
        table.add_row(*(escape(cell) for cell in cells(result)), style="red" if result.violations else "")
    console = Console(width=max(Console().width, _WIDTH_MIN))
    console.print(table)
    for result in results:
        for violation in result.violations[:_SHOWN_MAX]:
            console.print(f"  {result.phase.name}: {violation}", style="red", markup=False)


def cells(result: Result) -> list[str]:
    return [
        result.phase.name,
        f"{result.accepted:,}",
        _seconds(result.effect.back_after_seconds),
        _seconds(result.silence),
        str(result.retried),
        str(result.unserved),
        _seconds(result.settled_after),
        *(str(result.count(kind)) for kind in (Kind.LOST, Kind.DUPLICATED, Kind.WRONG)),
    ]


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
