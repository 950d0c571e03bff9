"""Publishing within spans: what a message carries is the context of the span that published it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from service_kit.broker import Publisher, PublishOutcome
from service_kit.message import Message
from service_kit.observability.trace_context import is_sampled
from service_kit.outbox import OutboxRow
from service_kit.relay import Parcel
from service_kit.tracing.messaging import EVENTS, MESSAGE_COUNT, MESSAGE_ID, WAIT_SECONDS
from service_kit.tracing.tracer import Kind, Span, Tracer


class TracedPublishing:
    """Publishes parcels, each sampled event within a span in its own trace, which ends with the confirm.

    A message has room for one context. Of several sampled events in it the first one's goes along, and links
    lead from there to the others, and from the others to there.
    """

    def __init__(self, publisher: Publisher, tracer: Tracer) -> None:
        self._publisher = publisher
        self._tracer = tracer

    async def __call__(self, parcels: Sequence[Parcel]) -> Sequence[PublishOutcome]:
        messages = [message for message, _ in parcels]
        spans = self._start_all(parcels)
        for index, started in spans.items():
            messages[index] = _carrying(messages[index], started[0])
        try:
            outcomes = await self._publisher.publish(messages)
            for index, started in spans.items():
                if outcomes[index] is not PublishOutcome.CONFIRMED:
                    _fail(started, outcomes[index].value)
            return outcomes
        except BaseException as error:  # of a cancellation a trace shall tell too
            _fail(chain(*spans.values()), type(error).__name__, str(error))
            raise
        finally:
            for span in chain(*spans.values()):
                span.end()

    def _start_all(self, parcels: Sequence[Parcel]) -> dict[int, list[Span]]:
        """The spans of each message that has any, by its place."""
        spans: dict[int, list[Span]] = {}
        for index, (message, rows) in enumerate(parcels):
            # Answers to the events of one message share their context, and so a span.
            sampled = {row.traceparent: row for row in rows if is_sampled(row.traceparent)}
            if sampled:
                shared: dict[str, str | int] = {MESSAGE_ID: message.message_id}
                if len(parcels) > 1:
                    shared[MESSAGE_COUNT] = len(parcels)
                if len(rows) > 1:
                    shared[EVENTS] = len(rows)
                spans[index] = self._start(message.routing_key, sampled, shared)
        return spans

    def _start(
        self, routing_key: str, sampled: Mapping[str, OutboxRow], shared: Mapping[str, str | int]
    ) -> list[Span]:
        form = self._tracer.messaging.publish(routing_key)
        first, *others = sampled
        spans: list[Span] = []
        for traceparent, row in sampled.items():
            links = [spans[0].traceparent] if traceparent is not first else others
            attributes = {**form.attributes, **shared, WAIT_SECONDS: row.waited_seconds}
            spans.append(
                self._tracer.start(
                    form.name, Kind.PRODUCER, parent=traceparent, attributes=attributes, links=links
                )
            )
        return spans


def _carrying(message: Message, span: Span) -> Message:
    return message._replace(headers={**message.headers, "traceparent": span.traceparent})


def _fail(spans: Iterable[Span], error_type: str, reason: str = "") -> None:
    for span in spans:
        span.failed(error_type, reason)
