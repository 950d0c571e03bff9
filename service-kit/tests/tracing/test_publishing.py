import asyncio
from collections.abc import Sequence

import pytest

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.message import Message
from service_kit.outbox import OutboxRow
from service_kit.relay import Parcel, RelaySettings, pack
from service_kit.testing.fakes_broker import FakePublisher
from service_kit.testing.recorded_spans import RecordedSpans
from service_kit.tracing.publishing import TracedPublishing


def trace(number: int, *, sampled: bool = True) -> str:
    return f"00-{number:032x}-{number:016x}-{int(sampled):02d}"


def row(id: int, traceparent: str | None) -> OutboxRow:
    return OutboxRow(
        id=id,
        event_type="order.created",
        payload=b"{}",
        message_id=f"message {id}",
        traceparent=traceparent,
        attempts=0,
        waited_seconds=id / 2,
    )


def parcels(*traceparents: str | None, events_per_message: int = 1) -> list[Parcel]:
    rows = [row(id, traceparent) for id, traceparent in enumerate(traceparents, start=1)]
    return list(pack(rows, RelaySettings(events_per_message=events_per_message)))


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def publish(publisher: FakePublisher, spans: RecordedSpans) -> TracedPublishing:
    return TracedPublishing(publisher, spans.tracer)


def carried(publisher: FakePublisher) -> Sequence[str | None]:
    return [message.headers.get("traceparent") for message in publisher.messages]


@pytest.mark.parametrize("traceparent", [None, "nonsense-01", trace(1, sampled=False)])
async def test_what_is_not_sampled_is_published_as_it_is(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans, traceparent: str | None
) -> None:
    given = parcels(traceparent)
    assert await publish(given) == [PublishOutcome.CONFIRMED]
    assert publisher.messages == [message for message, _ in given]
    assert await spans.ended() == []


async def test_a_message_carries_the_span_that_published_it_and_everything_else_stays(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    given = parcels(trace(7))
    await publish(given)

    (span,), (message,) = await spans.ended(), publisher.messages
    assert (span.kind, span.name, span.parent) == ("PRODUCER", "publish orders:order.created", trace(7))
    assert message.headers == {"traceparent": span.traceparent}
    assert span.attributes["messaging.message.id"] == message.message_id == "message 1"
    assert span.attributes["outbox.wait_seconds"] == 0.5
    assert "messaging.batch.message_count" not in span.attributes
    assert (message.body, message.routing_key) == (given[0][0].body, given[0][0].routing_key)
    assert not span.failed


async def test_of_a_batch_only_sampled_events_have_spans(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    await publish(parcels(trace(1), None, trace(3, sampled=False), trace(4)))

    first, last = await spans.ended()
    assert [span.parent for span in (first, last)] == [trace(1), trace(4)]
    assert carried(publisher) == [first.traceparent, None, trace(3, sampled=False), last.traceparent]
    assert [span.attributes["messaging.batch.message_count"] for span in (first, last)] == [4, 4]


@pytest.mark.parametrize("outcome", [PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE])
async def test_what_the_broker_turns_away_is_told_of_that_event_alone(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans, outcome: PublishOutcome
) -> None:
    def answer(message: Message) -> PublishOutcome:
        return outcome if message.message_id == "message 1" else PublishOutcome.CONFIRMED

    publisher.answer = answer
    assert await publish(parcels(trace(1), trace(2))) == [outcome, PublishOutcome.CONFIRMED]

    turned_away, confirmed = await spans.ended()
    assert turned_away.failed and turned_away.attributes["error.type"] == outcome.value
    assert not confirmed.failed


async def test_an_outage_fails_all_spans_and_goes_on(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    publisher.up.clear()
    with pytest.raises(BrokerUnavailable):
        await publish(parcels(trace(1), trace(2)))
    for span in await spans.ended():
        assert span.failed and span.attributes["error.type"] == "BrokerUnavailable"


async def test_a_publish_that_is_cancelled_ends_its_spans(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    publisher.confirming.clear()
    task = asyncio.create_task(publish(parcels(trace(1))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (span,) = await spans.ended()
    assert span.failed and span.attributes["error.type"] == "CancelledError"


async def test_of_events_in_one_message_the_first_sampled_one_goes_along_linked_with_the_others(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    traceparents = [trace(1, sampled=False), trace(2), trace(3), None, trace(5)]
    await publish(parcels(*traceparents, events_per_message=10))

    first, *others = await spans.ended()
    assert carried(publisher) == [first.traceparent]
    assert [span.parent for span in (first, *others)] == [trace(2), trace(3), trace(5)]
    assert first.links == [trace(3), trace(5)]
    assert [span.links for span in others] == [[first.traceparent]] * 2
    assert {span.attributes["events"] for span in (first, *others)} == {5}
    assert [span.attributes["outbox.wait_seconds"] for span in (first, *others)] == [1.0, 1.5, 2.5]


async def test_events_that_share_a_context_share_a_span(
    publish: TracedPublishing, publisher: FakePublisher, spans: RecordedSpans
) -> None:
    await publish(parcels(trace(1), trace(1), events_per_message=10))
    (span,) = await spans.ended()
    assert (span.parent, span.links, span.attributes["events"]) == (trace(1), [], 2)
