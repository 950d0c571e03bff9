"""The port of tracing. A span is handed on by its `traceparent`; while tracing is off there is no tracer."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from random import Random
from typing import Protocol

from service_kit.tracing.messaging import Messaging

Attributes = Mapping[str, str | bool | int | float]


class Kind(Enum):
    """What a span is in the eyes of OpenTelemetry."""

    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"


class Span(Protocol):
    """A span that was started; whoever starts it ends it."""

    @property
    def traceparent(self) -> str:
        """The context of this span, for what follows from it."""
        ...

    @property
    def recorded(self) -> bool:
        """False when the sampler left it out: then nothing needs to be said of it."""
        ...

    def rename(self, name: str) -> None: ...

    def add(self, attributes: Attributes) -> None: ...

    def failed(self, error_type: str, reason: str = "") -> None:
        """`error_type` is one of few words, `reason` is for people."""

    def current(self) -> AbstractContextManager[object]:
        """A block in which this span is the parent of what others trace by OpenTelemetry's API."""
        ...

    def end(self) -> None: ...


class Tracer(Protocol):
    @property
    def messaging(self) -> Messaging: ...

    def start(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        attributes: Attributes,
        links: Sequence[str] = (),
    ) -> Span:
        """Start a span under `parent`, or a new trace when that is no valid traceparent; the sampler decides.

        Links that are no valid traceparents are left out.
        """
        ...

    def continued(self, traceparent: str | None, random: Random) -> str:
        """As `continued_trace`, but a recorded span stays the parent of what follows from it."""
        ...

    async def close(self, within_seconds: float) -> None:
        """Export what has ended. What cannot be exported within that time is lost; raises nothing."""
