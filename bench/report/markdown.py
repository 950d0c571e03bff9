"""Tables and numbers as Markdown."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 5 else f"{value:.2f}"
    return f"{text} {unit}".strip()


def milliseconds(seconds: float | None) -> str:
    return number(None if seconds is None else 1000 * seconds, "ms")


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
