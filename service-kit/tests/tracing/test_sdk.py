import asyncio
import re
import threading
from collections.abc import Sequence
from random import Random

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from service_kit.observability.trace_context import is_sampled
from service_kit.testing.recorded_spans import RecordedSpans
from service_kit.tracing.messaging import Messaging
from service_kit.tracing.sdk import SdkTracer, open_tracer
from service_kit.tracing.tracer import Kind

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
MESSAGING = Messaging(system="rabbitmq", exchange="orders")


def begin(tracer: SdkTracer, parent: str | None) -> str:
    """The traceparent of a span that was started and ended."""
    span = tracer.start("work", Kind.INTERNAL, parent=parent, attributes={})
    span.end()
    return span.traceparent


async def test_a_span_continues_the_trace_of_its_parent(spans: RecordedSpans) -> None:
    traceparent = begin(spans.tracer, SAMPLED)
    (span,) = await spans.ended()
    assert (span.parent, span.traceparent) == (SAMPLED, traceparent)
    assert traceparent[:36] == SAMPLED[:36] and traceparent[36:52] != SAMPLED[36:52]


async def test_what_a_caller_does_not_sample_is_not_recorded(spans: RecordedSpans) -> None:
    span = spans.tracer.start("work", Kind.SERVER, parent=UNSAMPLED, attributes={})
    assert not span.recorded
    assert span.traceparent[:36] == UNSAMPLED[:36] and not is_sampled(span.traceparent)
    span.failed("nothing", "of this is kept")
    span.add({"a": 1})
    span.rename("b")
    span.end()
    assert await spans.ended() == []


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-" + "0" * 32 + SAMPLED[35:]])
async def test_without_a_valid_parent_a_new_trace_begins(spans: RecordedSpans, parent: str | None) -> None:
    traceparent = begin(spans.tracer, parent)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", traceparent)
    (span,) = await spans.ended()
    assert (span.parent, span.traceparent) == (None, traceparent)


async def test_links_that_lead_nowhere_are_left_out(spans: RecordedSpans) -> None:
    links = ["nonsense", UNSAMPLED]
    spans.tracer.start("work", Kind.PRODUCER, parent=None, attributes={}, links=links).end()
    (span,) = await spans.ended()
    assert span.links == [UNSAMPLED]


def test_a_recorded_span_stays_the_parent_of_what_follows(spans: RecordedSpans) -> None:
    assert spans.tracer.continued(SAMPLED, Random(0)) == SAMPLED
    unsampled = spans.tracer.continued(UNSAMPLED, Random(0))
    assert unsampled[:36] == UNSAMPLED[:36] and unsampled != UNSAMPLED
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", spans.tracer.continued(None, Random(0)))


@pytest.mark.parametrize(
    ("variables", "shares_process", "name"),
    [
        ({}, False, "order-service"),
        ({"OTEL_SERVICE_NAME": "shop"}, False, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop"}, False, "shop"),
        ({"OTEL_SERVICE_NAME": "shop"}, True, "order-service"),
    ],
)
async def test_a_service_is_named_by_the_variables_unless_two_share_the_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], shares_process: bool, name: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    exporter = InMemorySpanExporter()
    tracer = open_tracer("order-service", MESSAGING, shares_process=shares_process, exporter=exporter)
    begin(tracer, None)
    await tracer.close(5.0)
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == name
    assert {"service.instance.id", "telemetry.sdk.name"} <= set(span.resource.attributes)


class Hanging(SpanExporter):
    """Until it is released, or shut down."""

    def __init__(self) -> None:
        self.asked, self.released = threading.Event(), threading.Event()
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.released.wait(60)
        self.spans += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.released.set()


async def test_closing_waits_for_no_collector_beyond_its_time() -> None:
    exporter = Hanging()
    tracer = open_tracer("order-service", MESSAGING, exporter=exporter)
    begin(tracer, None)
    with capture_logs() as told:
        async with asyncio.timeout(60):
            await tracer.close(0.05)
    assert [line["event"] for line in told] == ["traces_not_flushed"]
    assert exporter.released.is_set()  # what still hangs is cut short


async def test_closing_exports_what_has_ended() -> None:
    exporter = Hanging()
    tracer = open_tracer("order-service", MESSAGING, exporter=exporter)
    begin(tracer, None)
    closing = asyncio.create_task(tracer.close(60.0))
    assert await asyncio.to_thread(exporter.asked.wait, 60)
    exporter.released.set()
    await closing
    assert exporter.spans == 1
