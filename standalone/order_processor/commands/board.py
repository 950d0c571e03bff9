"""What `top` shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from order_processor.commands.cells import count, counted, duration, moment, text
from order_processor.commands.health import Health, as_json, health_table
from order_processor.commands.options import ServiceName
from order_processor_client.admin_models import DeadLetterGroup, Flow, FlowSample, StuckOrders

_BARS = " ▁▂▃▄▅▆▇█"
_RATE_SECONDS = 5.0
_PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One look at everything; what could not be had is None."""

    at: datetime
    healths: Mapping[ServiceName, Health]
    flow: Flow | None
    stuck: StuckOrders | None
    groups: Sequence[tuple[ServiceName, DeadLetterGroup]]


def board_view(board: Board, width: int, height: int | None) -> RenderableType:
    head = Text.assemble(("order-processor top", "bold"), "   ", moment(board.at), " UTC")
    if height is not None:
        head.append("   q leaves", "dim")
    upper: list[RenderableType] = [
        head,
        Text(),
        _flow_table(board, width),
        Text(),
        health_table(board.healths),
    ]
    problems = islice(_problems(board), _PROBLEMS_MAX)
    return Group(*upper, Text(), *problems)


def board_as_json(board: Board) -> dict[str, Any]:
    latest = _latest(board.flow)
    return {
        "at": board.at,
        "per_second": {name: _rate(latest, name) for name in ("accepted", "done", "failed")},
        "latency_ms": latest[-1].latency_ms if latest else None,
        "services": {name: as_json(health) for name, health in board.healths.items()},
        "stuck_orders": board.stuck.total if board.stuck else None,
        "dead_letter_groups": [{"service": name, "group": group} for name, group in board.groups],
    }


def _flow_table(board: Board, width: int) -> Table:
    samples = board.flow.samples if board.flow else []
    latest = _latest(board.flow)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", min_width=10, no_wrap=True)
    table.add_column(no_wrap=True)
    room = max(10, width - 32)
    for name, style in (("accepted", "cyan"), ("done", "green"), ("failed", "red")):
        rates = [getattr(sample, name) / sample.seconds for sample in samples if sample.seconds]
        table.add_row(f"{name} per s", count(_rate(latest, name)), Text(_chart(rates, room), style))
    for name in ("p50", "p99"):
        values = [_percentile(sample, name) for sample in samples]
        known = [value for value in values if value is not None]
        shown = duration(known[-1] / 1000) if known and latest else None
        table.add_row(f"latency {name}", text(shown), Text(_chart([value or 0 for value in values], room)))
    return table


def _problems(board: Board) -> Iterator[RenderableType]:
    """What is wrong now, then what was set aside last."""
    for name, health in board.healths.items():
        for problem in health.problems():
            yield _line(f"! {name}-service: {problem}", "yellow")
    if board.stuck and board.stuck.total:
        for order in board.stuck.orders:
            yield _line(
                f"! {order.order_id} is pending for {duration(order.pending_seconds)}: {order.why}", "yellow"
            )
        yield _line(f"  {counted(board.stuck.total, 'order')} stuck in all")
    for name, group in board.groups:
        where = f"{moment(group.last_at).plain}  {name}  {group.count:,} × {group.event_type}"
        yield _line(f"{where}  {group.reason}", "")


def _line(words: str, style: str = "") -> Text:
    line = text(words, style)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _latest(flow: Flow | None) -> list[FlowSample]:
    """Those of the last seconds; none when the newest is old."""
    if not flow:
        return []
    return [one for one in flow.samples if (flow.now - one.at).total_seconds() <= _RATE_SECONDS]


def _rate(samples: Sequence[FlowSample], name: str) -> float | None:
    seconds = sum(sample.seconds for sample in samples)
    return sum(getattr(sample, name) for sample in samples) / seconds if seconds else None


def _percentile(sample: FlowSample, name: str) -> float | None:
    value: float | None = getattr(sample.latency_ms, name) if sample.latency_ms else None
    return value


def _chart(values: Sequence[float], room: int) -> str:
    """The newest values as bars, the largest of them full."""
    shown = values[-room:]
    most = max(shown, default=0) or 1
    return "".join(_BARS[0 if not value else max(1, round(value / most * 8))] for value in shown)
