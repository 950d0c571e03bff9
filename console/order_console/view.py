"""What the poller saw of the services."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from order_processor_client.admin_models import Replay, ServiceState
from order_processor_client.request import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One service as it was seen last; `problem` says why it was not."""

    state: ServiceState | None = None
    replays: Sequence[Replay] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Orders a second, over the last few seconds, and in how many milliseconds they ended."""

    accepted: float | None = None
    done: float | None = None
    failed: float | None = None
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    views: Mapping[Service, View] = field(default_factory=dict)
    pace: Pace = Pace()

    @property
    def dead_letters(self) -> int:
        return sum(view.state.backlog.dead_letters or 0 for view in self.views.values() if view.state)
