"""A real tracer whose spans stay in this process, for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from service_kit.tracing.messaging import Messaging
from service_kit.tracing.sdk import open_tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSpan:
    """`traceparent`, `parent` and `links` as they would be handed on."""

    name: str
    kind: str
    traceparent: str
    parent: str | None
    links: Sequence[str]
    attributes: Mapping[str, Any]
    failed: bool
    reason: str | None


class RecordedSpans:
    """`tracer` is what is handed to the code under test; `ended` closes it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        messaging = Messaging(system="rabbitmq", exchange="orders")
        self.tracer = open_tracer("probe-service", messaging, exporter=self._exporter)

    async def ended(self) -> list[RecordedSpan]:
        """All that have ended, in that order."""
        await self.tracer.close(5.0)
        return [_recorded(span) for span in self._exporter.get_finished_spans()]


def _recorded(span: ReadableSpan) -> RecordedSpan:
    return RecordedSpan(
        name=span.name,
        kind=span.kind.name,
        traceparent=_traceparent(span.get_span_context()) or "",
        parent=_traceparent(span.parent),
        links=[_traceparent(link.context) or "" for link in span.links],
        attributes=dict(span.attributes or {}),
        failed=not span.status.is_ok,
        reason=span.status.description,
    )


def _traceparent(context: SpanContext | None) -> str | None:
    if context is None:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
