"""The points that charts are drawn of."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from order_console.view import View
from order_processor_client.admin_models import Flow, FlowSample

HISTORY_SECONDS = 900

Point = Mapping[str, float | None]
"""One moment: `at` in milliseconds since 1970, and its values; None where nothing is known."""

_SECOND = 1_000
_STILL_TO_COME = 3 * _SECOND  # instances may write what they counted so much later
_SKIPPED = 2 * _SECOND  # a process that counts once a second misses one now and then


def flow_points(after: int, flow: Flow) -> list[Point]:
    """What happened after that moment: of seconds in which nothing did there are no samples, but points."""
    points: list[Point] = []
    before = after or milliseconds(flow.now) - HISTORY_SECONDS * _SECOND
    for sample in flow.samples:
        at = milliseconds(sample.at)
        if at > after:
            points += [*_nothing(before, at - int(sample.seconds * _SECOND)), _point(at, sample)]
            before = at
    return [*points, *_nothing(before, milliseconds(flow.now) - _STILL_TO_COME)]


def backlog_point(at: datetime, views: Iterable[View]) -> Point:
    """Of both services together."""
    backlogs = [view.state.backlog for view in views if view.state]
    return {
        "at": milliseconds(at),
        "outbox": _sum([backlog.outbox_pending for backlog in backlogs]),
        "queue": _sum([backlog.queue_messages for backlog in backlogs]),
        "retries": _sum([backlog.retries_pending for backlog in backlogs]),
        "dead_letters": _sum([backlog.dead_letters for backlog in backlogs]),
    }


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _point(at: int, sample: FlowSample) -> Point:
    latency = sample.latency_ms
    return {
        "at": at,
        "accepted": sample.accepted / sample.seconds,
        "done": sample.done / sample.seconds,
        "failed": sample.failed / sample.seconds,
        "p50": latency.p50 if latency else None,
        "p99": latency.p99 if latency else None,
    }


def _nothing(after: int, until: int) -> list[Point]:
    if until - after < _SKIPPED:
        return []
    nothing = {"accepted": 0.0, "done": 0.0, "failed": 0.0, "p50": None, "p99": None}
    return [{"at": at, **nothing} for at in range(after + _SECOND, until + 1, _SECOND)]


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
