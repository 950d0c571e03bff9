from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from service_kit.consumer import Handled, Never, Outcome, Received, RetryLater
from service_kit.errors import DatabaseUnavailable
from service_kit.testing.recorded_spans import RecordedSpans
from service_kit.tracing.handling import TracedHandler


@dataclass(frozen=True, slots=True)
class Note:
    key: str

    @property
    def subject(self) -> str:
        return self.key


class NoteHandler:
    """Implements Handler; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[Received[Note]] = []
        self.outcome: Callable[[Received[Note]], Outcome] = lambda _: Handled()

    def decode(self, event_type: str, body: bytes) -> Note:
        return Note(f"{event_type} {body.decode()}")

    async def handle(self, events: Sequence[Received[Note]]) -> Sequence[Outcome]:
        self.seen += events
        return [self.outcome(received) for received in events]


def trace(number: int, *, sampled: bool = True) -> str:
    return f"00-{number:032x}-{number:016x}-{int(sampled):02d}"


def note(key: str, traceparent: str | None, *, attempt: int = 1) -> Received[Note]:
    body, message_id = key.encode(), f"message of {key}"
    return Received(Note(key), attempt, None, traceparent, body, 0.0, message_id)


@pytest.fixture
def inner() -> NoteHandler:
    return NoteHandler()


@pytest.fixture
def handler(inner: NoteHandler, spans: RecordedSpans) -> TracedHandler[Note]:
    return TracedHandler(inner, spans.tracer, routing_key="note", queue="notes", subject_field="note_id")


async def test_what_is_not_sampled_is_handled_as_it_is(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans
) -> None:
    events = [note("a", None), note("b", trace(2, sampled=False)), note("c", "nonsense-1")]
    assert await handler.handle(events) == [Handled()] * 3
    assert inner.seen == events
    assert await spans.ended() == []


async def test_an_event_is_handled_in_a_span_below_that_of_its_message(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans
) -> None:
    await handler.handle([note("a", trace(1))])

    (span,), (received,) = await spans.ended(), inner.seen
    assert (span.kind, span.name) == ("CONSUMER", "process orders:note:notes")
    assert span.parent == trace(1)
    assert received.traceparent == span.traceparent
    assert span.attributes["note_id"] == "a"
    assert span.attributes["messaging.message.id"] == "message of a"
    assert not {"messaging.batch.message_count", "attempt", "events"} & set(span.attributes)


async def test_events_of_a_batch_stay_in_their_traces_and_in_their_order(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans
) -> None:
    await handler.handle([note("a", trace(1)), note("b", None), note("c", trace(3), attempt=2)])

    first, last = await spans.ended()
    assert [received.event.key for received in inner.seen] == ["a", "b", "c"]
    assert [received.traceparent for received in inner.seen] == [first.traceparent, None, last.traceparent]
    assert first.attributes["messaging.batch.message_count"] == 3
    assert last.attributes["attempt"] == 2


async def test_events_of_one_message_share_a_span(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans
) -> None:
    await handler.handle([note("a", trace(1)), note("b", trace(1)), note("c", trace(3))])

    shared, own = await spans.ended()
    assert shared.attributes["events"] == 2 and "note_id" not in shared.attributes
    assert own.attributes["note_id"] == "c"
    assert [received.traceparent for received in inner.seen] == [shared.traceparent] * 2 + [own.traceparent]


@pytest.mark.parametrize("outcome", [RetryLater(reason="the bank sleeps"), Never(reason="the bank sleeps")])
async def test_an_event_that_is_not_handled_fails_its_span_alone(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans, outcome: Outcome
) -> None:
    inner.outcome = lambda received: outcome if received.event.key == "a" else Handled()
    assert await handler.handle([note("a", trace(1)), note("b", trace(2))]) == [outcome, Handled()]

    failed, handled = await spans.ended()
    assert (failed.failed, failed.reason) == (True, "the bank sleeps")
    assert failed.attributes["error.type"] == type(outcome).__name__
    assert not handled.failed


async def test_an_exception_fails_all_spans_and_goes_on(
    handler: TracedHandler[Note], inner: NoteHandler, spans: RecordedSpans
) -> None:
    def fail(_: Received[Note]) -> Outcome:
        raise DatabaseUnavailable("the database sleeps")

    inner.outcome = fail
    with pytest.raises(DatabaseUnavailable):
        await handler.handle([note("a", trace(1)), note("b", trace(2))])
    for span in await spans.ended():
        assert (span.failed, span.reason) == (True, "the database sleeps")
        assert span.attributes["error.type"] == "DatabaseUnavailable"


def test_decoding_is_the_handlers(handler: TracedHandler[Note]) -> None:
    assert handler.decode("note", b"a") == Note("note a")
