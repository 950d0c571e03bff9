"""The way of one order through both services."""

from contextlib import suppress
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from order_processor.commands.cells import duration, status_text, text
from order_processor.commands.output import Output, new_table
from order_processor_client import Timeline
from order_processor_client.models import TimelineStep

_STYLES = {"retry": "yellow", "dead_letter": "red"}


def show_timeline(output: Output, timeline: Timeline) -> None:
    if output.json:
        output.document(timeline)
        return
    begin = next((step.at for step in timeline.steps if step.at), None)
    output.show(_head(timeline, begin), "", _table(timeline, begin))
    for problem in timeline.problems:
        output.show(text(f"! {problem}", "yellow"))
    if not timeline.complete and not timeline.problems:
        output.show(Text("more is to come", "dim"))


def _head(timeline: Timeline, begin: datetime | None) -> Text:
    order = timeline.order
    words = [text(order.order_id, "bold"), status_text(order.status), Text(f"version {order.version}")]
    if begin:
        words.append(Text(f"on {begin.astimezone(UTC):%Y-%m-%d}, in UTC", "dim"))
    return Text("  ").join(words)


def _table(timeline: Timeline, begin: datetime | None) -> Table:
    table = new_table("at", "after", "step", "by", "detail", right=["after"], fold=["by", "detail"])
    for step in timeline.steps:
        by = " ".join(who for who in (step.service, step.by) if who)
        after = duration((step.at - begin).total_seconds()) if begin and step.at else "–"
        name = text(step.step.replace("_", " "), _STYLES.get(step.step, ""))
        table.add_row(_time(step.at, begin), after, name, text(by), _detail(step, begin))
    return table


def _time(at: datetime | None, begin: datetime | None) -> Text:
    """To the millisecond; with its date when that is another than the first."""
    if not at or not begin:
        return Text("–")
    at = at.astimezone(UTC)
    another_day = at.date() != begin.astimezone(UTC).date()
    return Text(f"{at:%m-%d} " * another_day + f"{at:%H:%M:%S}.{at.microsecond // 1000:03}")


def _detail(step: TimelineStep, begin: datetime | None) -> Text:
    known = {name: value for name, value in (step.detail or {}).items() if value is not None}
    parts = [
        Text(" ").join([text(name.replace("_", " "), "dim"), _value(name, value, begin)])
        for name, value in known.items()
    ]
    return Text("  ").join(parts)


def _value(name: str, value: object, begin: datetime | None) -> Text:
    if name.endswith("_at") and isinstance(value, str):
        with suppress(ValueError):
            return _time(datetime.fromisoformat(value), begin)
    return text(value)
