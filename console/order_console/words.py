"""Values in words: numbers, times, and foreign text made harmless and visible."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from markupsafe import Markup, escape

UNKNOWN = "–"
TEXT_MAX = 500
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""What is not seen, turns the direction of what follows, or hides in other text."""


def shown(text: object, most: int = TEXT_MAX) -> Markup:
    """Foreign text for a page: escaped, cut, with a direction of its own, and nothing in it invisible."""
    whole = str(text)
    visible = Markup(_INVISIBLE.sub(_named, str(escape(whole[:most]))))  # noqa: S704 - escaped
    rest = Markup(' <span class="soft">… ({} characters in all)</span>').format(count(len(whole)))
    return Markup("<bdi>{}</bdi>{}").format(visible, rest if len(whole) > most else "")


def plain(text: object, most: int = 80) -> str:
    """The same for places that take no markup, such as the page's title."""
    whole = str(text)
    visible = _INVISIBLE.sub(lambda found: _code(found[0]), whole[:most])
    return visible + ("…" if len(whole) > most else "")


def _named(found: re.Match[str]) -> str:
    code = _code(found[0])
    name = unicodedata.name(found[0], "control character").lower()
    return f'<span class="control" title="{name}">{code}</span>'


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def count(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    if number is None:
        return UNKNOWN
    return f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:,.0f}"


def share(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number * 100:.3g} %"


def money(amount: Decimal | None) -> str:
    """At least two decimal places, and never fewer than there are."""
    if amount is None:
        return UNKNOWN
    text = f"{amount:,f}"
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents:0<2}"


def size(number: int | None) -> str:
    if number is None:
        return UNKNOWN
    if number < 1024:
        return f"{number} bytes"
    return f"{number / 1024:,.1f} KiB" if number < 1024**2 else f"{number / 1024**2:,.1f} MiB"


def duration(seconds: float | timedelta | None) -> str:
    """In the two largest units that say something."""
    if seconds is None:
        return UNKNOWN
    exact = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if not exact:
        return "0 ms"
    if exact < 0:
        return f"−{duration(-exact)}"
    if exact < 1:
        return f"{exact * 1000:.1f} ms" if exact < 0.01 else f"{exact * 1000:.0f} ms"
    return f"{exact:.1f} s".replace(".0 s", " s") if exact < 60 else _long(int(exact))


def _long(seconds: int) -> str:
    large = next(number for number, (_, unit) in enumerate(_UNITS) if seconds >= unit)
    (name, unit), (smaller_name, smaller) = _UNITS[large : large + 2]
    rest = seconds % unit // smaller
    return f"{seconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")


def told(value: object) -> Markup:
    """A detail of a step: times as times, everything else as text."""
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return moment(datetime.fromisoformat(value), "milliseconds")
    except ValueError:
        pass  # of a day that there is not
    return shown(value, 300)


def readable(document: object) -> str:
    """What a JSON document says, over several lines."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def moment(
    at: datetime | None, form: Literal["minutes", "seconds", "milliseconds", "clock"] = "seconds"
) -> Markup:
    """A time in UTC: the year only when it is another, the day unless only the clock is wanted."""
    if at is None:
        return Markup(UNKNOWN)  # noqa: S704 - a constant
    utc = at.astimezone(UTC)
    day = f"{utc.day} {utc:%b} " + ("" if utc.year == datetime.now(UTC).year else f"{utc.year} ")
    clock = f"{utc:%H:%M}" if form == "minutes" else f"{utc:%H:%M:%S}"
    if form in ("milliseconds", "clock"):
        clock += f".{utc.microsecond // 1000:03}"
    template = Markup('<time datetime="{}" title="{} UTC">{}{}</time>')
    return template.format(
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S.%f}", "" if form == "clock" else day, clock
    )


def ago(at: datetime | None) -> str:
    if at is None:
        return UNKNOWN
    passed = datetime.now(UTC) - at
    return "just now" if passed < timedelta(seconds=1) else f"{duration(passed)} ago"
