"""How a service is, as far as it lets us see, and what is wrong with it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from order_processor.commands.cells import NONE, counted, duration, text
from order_processor.commands.options import ServiceName
from order_processor_client import ClientError, ProblemError, Unreachable
from order_processor_client.admin_models import Check, Consuming, Readiness, ServiceState
from order_processor_client.async_client import AsyncServiceAdmin

LATE_SECONDS = 60.0
"""An event that waits longer to be published is a problem."""

_CLOSED = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`state` is None without the key, then `readiness` is all there is; neither when it is not reachable."""

    state: ServiceState | None = None
    readiness: Readiness | None = None
    trouble: str | None = None

    @property
    def reachable(self) -> bool:
        return self.state is not None or self.readiness is not None

    @property
    def checks(self) -> Mapping[str, Check]:
        known = self.state or self.readiness
        return known.checks if known else {}

    def problems(self) -> Iterator[str]:
        """What somebody should do something about, in words."""
        if self.trouble:
            yield self.trouble
        for name, check in self.checks.items():
            if not check.ok:
                yield f"{name}: {check.detail}"
        if self.state:
            yield from _of_state(self.state)


async def health_of(admin: AsyncServiceAdmin) -> Health:
    """Never raises for what is wrong with the service: that is what it tells."""
    try:
        return Health(state=await admin.state())
    except ProblemError as error:
        refused = None if error.status in _CLOSED else str(error)
    except ClientError as error:
        return Health(trouble=_trouble(error))
    try:
        return Health(readiness=await admin.readiness(), trouble=refused)
    except ClientError as error:
        return Health(trouble=refused or _trouble(error))


def as_json(health: Health) -> dict[str, Any]:
    return {
        "reachable": health.reachable,
        "problems": list(health.problems()),
        "state": health.state,
        "readiness": health.readiness,
    }


def health_table(healths: Mapping[ServiceName, Health], *, without: Collection[str] = ()) -> Table:
    """Rows of what is known, a column for each service."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("", style="bold", no_wrap=True)
    for name in healths:
        table.add_column(f"{name}-service", overflow="fold")
    rows = [_rows(health) for health in healths.values()]
    for label in dict.fromkeys(label for row in rows for label in row if label not in without):
        table.add_row(label, *(row.get(label, Text(NONE, "dim")) for row in rows))
    return table


def _trouble(error: ClientError) -> str:
    return f"not reachable: {error.reason}" if isinstance(error, Unreachable) else str(error)


def _of_state(state: ServiceState) -> Iterator[str]:
    consuming, backlog = state.consuming, state.backlog
    if consuming.paused:
        why = f": {consuming.reason}" if consuming.reason else ""
        yield f"consuming was paused by {consuming.by or 'somebody'}{why}"
    if backlog.dead_letters:
        yield f"{counted(backlog.dead_letters, 'dead letter')}: order-processor dead-letters groups"
    if (backlog.outbox_oldest_seconds or 0) > LATE_SECONDS:
        yield f"an event has waited for {duration(backlog.outbox_oldest_seconds)} to be published"


def _rows(health: Health) -> dict[str, Text]:
    rows = {"state": _word(health)}
    rows |= {name: _check(check) for name, check in health.checks.items()}
    if state := health.state:
        rows |= _state_rows(state)
    return rows


def _word(health: Health) -> Text:
    if not health.reachable:
        return Text("✗ not reachable", "red")
    if all(check.ok for check in health.checks.values()):
        return Text("✓ ready", "green")
    return Text("✗ not ready", "red")


def _check(check: Check) -> Text:
    return Text("✓ ok", "green") if check.ok else text(f"✗ {check.detail or 'not ok'}", "red")


def _state_rows(state: ServiceState) -> dict[str, Text]:
    backlog = state.backlog
    return {
        "consuming": consuming_text(state.consuming),
        "queue": _waiting(backlog.queue_messages, "message"),
        "outbox": _waiting(backlog.outbox_pending, "event", _oldest(backlog.outbox_oldest_seconds)),
        "retries": _waiting(backlog.retries_pending, "event", _next(state)),
        "dead letters": text(backlog.dead_letters, "red" if backlog.dead_letters else ""),
        "up for": Text(duration((state.now - state.started_at).total_seconds())),
        "version": text(state.version),
        "instance": text(state.instance),
    }


def consuming_text(consuming: Consuming) -> Text:
    match consuming.paused:
        case None:
            return Text(NONE)
        case True:
            return Text("✗ paused", "yellow")
        case False:
            return Text("✓ running", "green")


def _waiting(number: int | None, what: str, words: str = "") -> Text:
    if number is None:
        return Text(NONE)
    more = f", {words}" if number and words else ""
    return Text(counted(number, what) + more)


def _oldest(seconds: float | None) -> str:
    return f"oldest {duration(seconds)}" if seconds is not None else ""


def _next(state: ServiceState) -> str:
    due: datetime | None = state.backlog.retries_next_due_at
    if not due:
        return ""
    return f"next in {duration((due - state.now).total_seconds())}" if due > state.now else "due now"
