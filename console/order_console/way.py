"""An order's way from acceptance to its end: what happened, what took how long, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from order_processor_client.models import Timeline, TimelineStep
from order_processor_client.request import Service

STEPS: Mapping[str, str] = {
    "accepted": "The order was read and found valid.",
    "committed": "The order and its event are stored, in one transaction.",
    "published": "The relay handed the event to the broker.",
    "confirmed": "The broker has stored the event.",
    "received": "processor-service has taken the event from its queue.",
    "decided": "Rules or policy decided, and the decision is stored.",
    "answered": "The decision was published, and the broker has stored it.",
    "applied": "The order has its final status.",
}
_EXTRAS: Mapping[str, str] = {
    "waiting": "The event is in the outbox and waits to be published.",
    "retry": "The event failed and waits for another attempt.",
    "dead_letter": "The event could not be handled and waits for an operator.",
}
_TITLES = {"waiting": "Waits in the outbox", "retry": "Waits for a retry", "dead_letter": "Set aside"}


class Found(StrEnum):
    """`UNKNOWN`: it must have happened, but nobody remembers; `AHEAD`: it has not happened yet."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`took` is the time since the stage before it, as far as both are known and come in this order."""

    name: str
    words: str
    found: Found
    step: TimelineStep | None = None
    took: timedelta | None = None
    service: Service | None = None

    @property
    def title(self) -> str:
        return _TITLES.get(self.name, self.name.capitalize())


def way(timeline: Timeline) -> list[Stage]:
    """The stages in their order; those that are missing stand where they belong."""
    stages = list(_known(timeline.steps))
    if timeline.order.final:
        return stages
    seen = {stage.name for stage in stages}
    return stages + [_missing(name, Found.AHEAD) for name in STEPS if name not in seen]


def duration(timeline: Timeline, stages: Sequence[Stage]) -> timedelta | None:
    """From acceptance to the end, of an order that has come there."""
    if not timeline.order.final:
        return None
    times = [stage.step.at for stage in stages if stage.step and stage.step.at]
    return times[-1] - times[0] if len(times) > 1 else None


def _known(steps: Sequence[TimelineStep]) -> Iterator[Stage]:
    ahead = list(STEPS)
    before: datetime | None = None
    for step in steps:
        if step.step in ahead:
            skipped, ahead = ahead[: ahead.index(step.step)], ahead[ahead.index(step.step) + 1 :]
            yield from (_missing(name, Found.UNKNOWN) for name in skipped)
        took = step.at - before if step.at and before and step.at >= before else None
        before = step.at or before
        words = STEPS.get(step.step) or _EXTRAS.get(step.step, "")
        found = Found.KNOWN if step.at or step.step in _EXTRAS else Found.UNKNOWN
        service = Service.ORDER if step.service == steps[0].service else Service.PROCESSOR
        yield Stage(name=step.step, words=words, found=found, step=step, took=took, service=service)


def _missing(name: str, found: Found) -> Stage:
    return Stage(name=name, words=STEPS[name], found=found)
