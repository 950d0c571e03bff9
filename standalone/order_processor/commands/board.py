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
_RATE_SECONDS = 5
_PROBLEMS_MAX = 20
_NOT_SHOWN = ("up for", "version", "instance")


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
        health_table(board.healths, without=_NOT_SHOWN),
    ]
    problems = islice(_problems(board), _PROBLEMS_MAX)
    return Group(*upper, Text(), *problems)


def board_as_json(board: Board) -> dict[str, Any]:
    latest = _last_seconds(board.flow, _RATE_SECONDS)
    latencies = [sample.latency_ms for sample in latest if sample]
    return {
        "at": board.at,
        "per_second": {name: _rate(latest, name) for name in ("accepted", "done", "failed")},
        "latency_ms": latencies[-1] if latencies else None,
        "services": {name: as_json(health) for name, health in board.healths.items()},
        "stuck_orders": board.stuck.total if board.stuck else None,
        "dead_letter_groups": [{"service": name, "group": group} for name, group in board.groups],
    }


def _flow_table(board: Board, width: int) -> Table:
    room = max(10, width - 44)
    seconds = _last_seconds(board.flow, room)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", min_width=10, no_wrap=True)
    table.add_column(no_wrap=True, min_width=room)
    table.add_column(style="dim", no_wrap=True)
    for name, style in (("accepted", "cyan"), ("done", "green"), ("failed", "red")):
        rates = [_rate([sample], name) or 0 for sample in seconds]
        chart, peak = Text(_chart(rates), style), f"peak {max(rates, default=0):,.0f}"
        table.add_row(f"{name} per s", count(_rate(seconds[-_RATE_SECONDS:], name)), chart, peak)
    for name in ("p50", "p99"):
        values = [_percentile(sample, name) for sample in seconds]
        known = [value for value in values if value is not None]
        newest, peak = (duration(known[-1] / 1000), duration(max(known) / 1000)) if known else (None, "–")
        table.add_row(
            f"latency {name}", text(newest), _chart([value or 0 for value in values]), f"peak {peak}"
        )
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


def _last_seconds(flow: Flow | None, room: int) -> list[FlowSample | None]:
    """A sample for each of the last seconds, the newest at the end; None when nothing happened in it."""
    if not flow:
        return []
    samples = {int((flow.now - sample.at).total_seconds()): sample for sample in flow.samples}
    return [samples.get(ago) for ago in range(room, 0, -1)]


def _rate(samples: Sequence[FlowSample | None], name: str) -> float | None:
    """Per second, on average; None when nothing is known."""
    seconds = sum(max(1.0, sample.seconds) if sample else 1.0 for sample in samples)
    return sum(getattr(sample, name) for sample in samples if sample) / seconds if seconds else None


def _percentile(sample: FlowSample | None, name: str) -> float | None:
    value: float | None = getattr(sample.latency_ms, name) if sample and sample.latency_ms else None
    return value


def _chart(values: Sequence[float]) -> str:
    """The values as bars, the largest of them full."""
    most = max(values, default=0) or 1
    return "".join(_BARS[0 if not value else max(1, round(value / most * 8))] for value in values)
