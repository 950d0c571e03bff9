"""Values as people read them. Text of others is escaped: it may hold what commands a terminal."""

from datetime import UTC, datetime
from decimal import Decimal

from rich.text import Text

from service_kit.printable import printable

NONE = "–"
_STYLES = {
    "done": "green",
    "finished": "green",
    "pending": "yellow",
    "running": "cyan",
    "paused": "yellow",
    "failed": "red",
    "stopped": "red",
    "cancelled": "magenta",
}


def text(value: object, style: str = "") -> Text:
    return Text(NONE if value is None or value == "" else printable(str(value)), style)


def cell(value: object) -> Text:
    """By what kind of value it is."""
    match value:
        case Text():
            return value
        case datetime():
            return moment(value)
        case int() | float() if not isinstance(value, bool):
            return Text(f"{value:,}")
        case _:
            return text(value)


def status_text(word: str) -> Text:
    return text(word, _STYLES.get(word, ""))


def moment(at: datetime | None) -> Text:
    """In UTC, as in logs and in the database; the year is told when it is another than this one."""
    if at is None:
        return Text(NONE)
    at = at.astimezone(UTC)
    return Text(f"{at:%m-%d %H:%M:%S}" if at.year == datetime.now(UTC).year else f"{at:%Y-%m-%d %H:%M:%S}")


def amount(value: Decimal) -> Text:
    return Text(f"{value:,f}")


def count(value: float | None) -> Text:
    return Text(NONE if value is None else f"{value:,.0f}")


def counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """The two largest units at most: `3 h 12 min`, `41 s`, `120 ms`."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, large, small_size, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // small_size)
            return f"{int(seconds // size)} {large}" + (f" {rest} {small}" if rest else "")
    return f"{seconds:.0f} s"
