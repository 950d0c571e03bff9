"""The table at the end of a run."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.results import Result

_SHOWN = 6


def print_table(results: Sequence[Result]) -> None:
    table = Table(
        title=f"{len(results)} runs, {sum(result.accepted for result in results):,} accepted orders"
    )
    for column, justify in (
        ("fault", "left"),
        ("seen of it", "left"),
        ("accepted", "right"),
        ("lost", "right"),
        ("duplicated", "right"),
        ("wrong", "right"),
        ("recovered after", "right"),
    ):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for result in results:
        table.add_row(*(escape(cell) for cell in cells(result)), style="" if result.passed else "red")
    console = Console()
    console.print(table)
    for result in results:
        if not result.passed:
            console.print(f"\n{result.name}: again with  {result.command}", style="red", markup=False)
            reasons = result.violations or ["the fault was not seen to bite: this run proves nothing"]
            for reason in reasons[:20]:
                console.print(f"  {reason}", markup=False)


def cells(result: Result) -> list[str]:
    recovered = result.recovered_after_seconds
    return [
        result.name,
        seen(result),
        f"{result.accepted:,}",
        str(result.lost),
        str(result.duplicated),
        str(result.wrong),
        "never" if recovered is None else f"{recovered:.1f} s",
    ]


def seen(result: Result) -> str:
    """The evidence in a few words."""
    text = ", ".join(
        f"{count:,} {what.replace('_', ' ')}" for what, count in list(result.evidence.items())[:_SHOWN]
    )
    return text if result.bit else f"did not bite: {text}"
