"""The way of one order through both services."""

from datetime import datetime

from rich.text import Text

from order_processor.commands.cells import duration, moment, status_text, text
from order_processor.commands.output import Output, new_table
from order_processor_client import Timeline
from order_processor_client.models import TimelineStep

_STYLES = {"retry": "yellow", "dead_letter": "red"}


def show_timeline(output: Output, timeline: Timeline) -> None:
    if output.json:
        output.document(timeline)
        return
    order = timeline.order
    head = [text(order.order_id, "bold"), status_text(order.status), Text(f"version {order.version}")]
    output.show(Text("  ").join(head))
    if order.fail_reason:
        output.show(text(order.fail_reason))
    table = new_table("at (UTC)", "after", "step", "by", "detail", right=["after"], fold=["by", "detail"])
    begin = next((step.at for step in timeline.steps if step.at), None)
    for step in timeline.steps:
        name = text(step.step, _STYLES.get(step.step, ""))
        by = Text("\n").join(text(who, style) for who, style in ((step.service, ""), (step.by, "dim")) if who)
        table.add_row(moment(step.at), _after(begin, step.at), name, by, _detail(step))
    output.show(Text(), table)
    for problem in timeline.problems:
        output.show(text(f"! {problem}", "yellow"))
    if not timeline.complete and not timeline.problems:
        output.show(Text("more is to come", "dim"))


def _after(begin: datetime | None, at: datetime | None) -> Text:
    return Text(duration((at - begin).total_seconds()) if begin and at else "–")


def _detail(step: TimelineStep) -> Text:
    known = {name: value for name, value in (step.detail or {}).items() if value is not None}
    return Text("\n").join(text(f"{name.replace('_', ' ')}: {value}") for name, value in known.items())
