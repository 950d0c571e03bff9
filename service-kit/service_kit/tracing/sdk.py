"""The official SDK behind the port. Loaded when tracing is on, and by nothing else."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from random import Random
from threading import Thread
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from service_kit.observability.trace_context import continued_trace, is_sampled, trace_id
from service_kit.tracing.export import ToldExporter
from service_kit.tracing.messaging import Messaging
from service_kit.tracing.tracer import Attributes, Kind
from service_kit.version import installed_version

_KINDS = {kind: SpanKind[kind.name] for kind in Kind}
_FLUSH_SECONDS_MAX, _FLUSH_SECONDS_WHEN_FAILING = 5.0, 0.5

log = structlog.stdlib.get_logger()


def open_tracer(
    service_name: str,
    messaging: Messaging,
    *,
    shares_process: bool = False,
    is_global: bool = False,
    exporter: SpanExporter | None = None,
) -> "SdkTracer":
    """A tracer with a provider of its own, that exports by OTLP unless by `exporter`; as OTEL_* say."""
    resource = _resource(service_name, shares_process=shares_process)
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    told = ToldExporter(exporter or OTLPSpanExporter(), service_name)
    provider.add_span_processor(BatchSpanProcessor(told))
    if is_global and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    return SdkTracer(provider, told, messaging)


class SdkTracer:
    """Implements Tracer."""

    def __init__(self, provider: TracerProvider, exporter: ToldExporter, messaging: Messaging) -> None:
        self.messaging = messaging
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("order_processor")

    def start(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        attributes: Attributes,
        links: Sequence[str] = (),
    ) -> "SdkSpan":
        span = self._tracer.start_span(
            name,
            # Of the contexts that we are handed as text, only those of internal spans are of this process.
            _context_below(parent, is_remote=kind is not Kind.INTERNAL),
            _KINDS[kind],
            attributes,
            [Link(_span_context(link, is_remote=True)) for link in links if trace_id(link)],
        )
        return SdkSpan(span)

    def continued(self, traceparent: str | None, random: Random) -> str:
        return traceparent if is_sampled(traceparent) else continued_trace(traceparent, random)

    async def close(self, within_seconds: float) -> None:
        patience_seconds = _FLUSH_SECONDS_MAX
        if self._exporter.failing:
            self._exporter.shutdown()
            patience_seconds = _FLUSH_SECONDS_WHEN_FAILING
        flushed, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(flushed.set)

        # A daemon: a connect that hangs shall not keep the process.
        Thread(target=flush, name="flush-traces", daemon=True).start()
        try:
            async with asyncio.timeout(min(within_seconds, patience_seconds)):
                await flushed.wait()
        except TimeoutError:
            self._exporter.shutdown()
            log.warning("traces_not_flushed")


class SdkSpan:
    """Implements Span."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def recorded(self) -> bool:
        return self._span.is_recording()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def add(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def failed(self, error_type: str, reason: str = "") -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(StatusCode.ERROR, reason or error_type)

    def current(self) -> AbstractContextManager[object]:
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self) -> None:
        self._span.end()


def _context_below(traceparent: str | None, *, is_remote: bool) -> Context:
    if traceparent is None or trace_id(traceparent) is None:
        return Context()
    parent = NonRecordingSpan(_span_context(traceparent, is_remote=is_remote))
    return trace.set_span_in_context(parent, Context())


def _span_context(traceparent: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        trace_id=int(traceparent[3:35], 16),
        span_id=int(traceparent[36:52], 16),
        is_remote=is_remote,
        trace_flags=TraceFlags(int(traceparent[53:], 16)),
    )


def _resource(service_name: str, *, shares_process: bool) -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts more than what we know ourselves."""
    said = Resource.create()
    attributes: dict[str, Any] = dict(said.attributes)
    instance_id = str(uuid.uuid4())
    if shares_process:
        attributes |= {"service.name": service_name, "service.instance.id": instance_id}
    if str(attributes["service.name"]).startswith("unknown_service"):
        attributes["service.name"] = service_name
    attributes.setdefault("service.instance.id", instance_id)
    attributes.setdefault("service.version", installed_version())
    return _HashedResource(attributes, said.schema_url)


class _HashedResource(Resource):
    """Remembers its hash: the exporter asks for it at each span, and the SDK would write JSON each time."""

    def __init__(self, attributes: Mapping[str, Any], schema_url: str) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash
