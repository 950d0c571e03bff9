"""Handling events within spans, each in the trace that its message brought."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from service_kit.consumer import Event, Handled, Handler, Outcome, Received
from service_kit.observability.trace_context import is_sampled
from service_kit.tracing.messaging import EVENTS, MESSAGE_COUNT, MESSAGE_ID
from service_kit.tracing.tracer import Attributes, Kind, Span, Tracer

E = TypeVar("E", bound=Event)


class TracedHandler(Generic[E]):
    """Implements Handler by another one, to which an event's `traceparent` is that of the span handling it.

    The context that came with the message is the span's parent. Events of one message have one context, and
    so one span; events without a sampled context have none. Whatever is handled again gets another span.
    """

    def __init__(
        self, handler: Handler[E], tracer: Tracer, *, routing_key: str, queue: str, subject_field: str
    ) -> None:
        self._handler = handler
        self._tracer = tracer
        self._form = tracer.messaging.process(routing_key, queue)
        self._subject_field = subject_field

    def decode(self, event_type: str, body: bytes) -> E:
        return self._handler.decode(event_type, body)

    async def handle(self, events: Sequence[Received[E]]) -> Sequence[Outcome]:
        spans = {
            traceparent: self._start(traceparent, sharing, together=len(events))
            for traceparent, sharing in _by_context(events).items()
        }
        if not spans:
            return await self._handler.handle(events)
        try:
            outcomes = await self._handler.handle([_within(spans, received) for received in events])
            for received, outcome in zip(events, outcomes, strict=False):
                span = spans.get(received.traceparent or "")
                if span and not isinstance(outcome, Handled):
                    span.failed(type(outcome).__name__, outcome.reason)
            return outcomes
        except BaseException as error:  # of a cancellation a trace shall tell too
            for span in spans.values():
                span.failed(type(error).__name__, str(error))
            raise
        finally:
            for span in spans.values():
                span.end()

    def _start(self, traceparent: str, sharing: Sequence[Received[E]], *, together: int) -> Span:
        attributes = {**self._form.attributes, **self._about(sharing)}
        if together > 1:
            attributes[MESSAGE_COUNT] = together
        return self._tracer.start(self._form.name, Kind.CONSUMER, parent=traceparent, attributes=attributes)

    def _about(self, sharing: Sequence[Received[E]]) -> Attributes:
        first, *others = sharing
        about: dict[str, str | int] = {}
        if first.message_id:
            about[MESSAGE_ID] = first.message_id
        if first.attempt > 1:
            about["attempt"] = first.attempt
        if others:
            about[EVENTS] = len(sharing)
        else:
            about[self._subject_field] = first.event.subject
        return about


def _by_context(events: "Sequence[Received[E]]") -> "dict[str, list[Received[E]]]":
    """The events of each sampled context."""
    sharing: dict[str, list[Received[E]]] = {}
    for received in events:
        if is_sampled(received.traceparent):
            sharing.setdefault(received.traceparent, []).append(received)
    return sharing


def _within(spans: dict[str, Span], received: "Received[E]") -> "Received[E]":
    span = spans.get(received.traceparent or "")
    return received._replace(traceparent=span.traceparent) if span else received
