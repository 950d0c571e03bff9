import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest

from service_kit.back_pressure import BackPressure
from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.lifecycle import Wakeup
from service_kit.message import Message
from service_kit.observability.metrics import Metrics
from service_kit.outbox import OutboxEvent
from service_kit.relay import Relay, RelaySettings
from service_kit.retry import Backoff, RetryPolicy
from service_kit.testing.fakes import FakeClaim, FakeDatabase, FakeDeadLetters, FakeOutbox
from service_kit.testing.fakes_broker import FakePublisher, confirm_everything
from service_kit.testing.stores_conformance import outbox_event
from service_kit.testing.virtual_time import VirtualTime, loop_clock

CONFIRMED, REFUSED, UNROUTABLE = PublishOutcome.CONFIRMED, PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE
RETRY_POLICY = RetryPolicy(attempts_max=3, backoff=Backoff(first_seconds=30, jitter=0))

Answer = Callable[[Message], PublishOutcome]


@dataclass(slots=True, kw_only=True)
class World:
    """A relay between a fake outbox and a fake broker."""

    database: FakeDatabase
    outbox: "CountingOutbox"
    publisher: FakePublisher
    wakeup: Wakeup
    metrics: Metrics
    relay: Relay

    @classmethod
    def of(cls, settings: RelaySettings) -> "World":
        database, publisher = FakeDatabase(loop_clock), FakePublisher()
        outbox = CountingOutbox(database)
        wakeup, metrics = Wakeup(), Metrics()
        relay = Relay(outbox, publisher, wakeup=wakeup, metrics=metrics, settings=settings, random=Random(0))
        return cls(
            database=database,
            outbox=outbox,
            publisher=publisher,
            wakeup=wakeup,
            metrics=metrics,
            relay=relay,
        )

    async def add(self, *events: OutboxEvent) -> None:
        await self.outbox.add(events)

    @property
    def published(self) -> list[int]:
        """The numbers of the confirmed events, in the order of their confirms."""
        return [number for message in self.publisher.messages for number in numbers(message)]

    @property
    def waiting(self) -> list[int]:
        return [json.loads(waiting.row.payload)["number"] for waiting in self.database.outbox.values()]

    @property
    def attempts(self) -> list[int]:
        return [waiting.row.attempts for waiting in self.database.outbox.values()]

    def counted(self, name: str) -> float:
        samples = [
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        ]
        return sum(samples)


@dataclass(slots=True)
class Call:
    only: str | None
    limit: int
    published: Collection[int] = ()
    rejected: Collection[int] = ()
    publish_seconds: float = 0.0


class CountingOutbox(FakeOutbox):
    """Notes each claim that found rows."""

    def __init__(self, database: FakeDatabase) -> None:
        super().__init__(database, random=Random(0), retry_policy=RETRY_POLICY)
        self.calls: list[Call] = []

    @asynccontextmanager
    async def claim(
        self, limit: int, *, only: str | None = None, excluding: Collection[str] = ()
    ) -> AsyncIterator[FakeClaim]:
        call = Call(only, limit)
        async with super().claim(limit, only=only, excluding=excluding) as claim:
            if claim.rows:
                self.calls.append(call)
            yield claim
            call.published, call.rejected = claim.published, [*claim.postponed, *claim.dead]
            call.publish_seconds = claim.publish_seconds


@pytest.fixture
async def world() -> World:
    return World.of(RelaySettings())


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.relay.run())
    try:
        yield
    finally:
        world.publisher.confirming.set()
        world.relay.stop()
        await task


def numbers(message: Message) -> list[int]:
    content = json.loads(message.body)
    return [event["number"] for event in (content if isinstance(content, list) else [content])]


def answering(answers: Mapping[str, PublishOutcome]) -> Answer:
    """By event type."""
    return lambda message: answers.get(message.routing_key, CONFIRMED)


def rejecting(*culprits: int) -> Answer:
    def answer(message: Message) -> PublishOutcome:
        if set(numbers(message)) & set(culprits):
            raise MessageRejected("406: no such content")
        return CONFIRMED

    return answer


def events(count: int, event_type: str = "order.created", *, start: int = 0) -> Sequence[OutboxEvent]:
    return [outbox_event(number, event_type) for number in range(start, start + count)]


# the plain way


async def test_a_batch_is_claimed_confirmed_and_removed_once(world: World) -> None:
    await world.add(*events(3))

    async with running(world):
        await asyncio.sleep(60)

    assert world.published == [0, 1, 2]
    assert world.waiting == []
    assert len(world.publisher.batches) == 1
    (call,) = world.outbox.calls
    assert (len(call.published), call.rejected) == (3, [])
    assert world.counted("events_published_total") == 3
    assert world.counted("events_failed_total") == 0


@pytest.mark.parametrize(("first", "second_is_sent_at"), [(15, 0.02), (16, 0.03)])
async def test_after_a_crowd_that_took_long_the_next_claim_gathers(
    world: World, first: int, second_is_sent_at: float
) -> None:
    await world.add(*events(first))
    world.publisher.confirming.clear()

    async with running(world):
        await asyncio.sleep(0.01)
        await world.add(*events(1, start=first))
        world.wakeup.notify()
        await asyncio.sleep(0.01)
        world.publisher.confirming.set()
        await asyncio.sleep(0.9)

    assert [at for at, _ in world.publisher.batches] == pytest.approx([0.0, second_is_sent_at])
    assert world.waiting == []


async def test_a_message_carries_its_event_its_id_and_its_trace(world: World) -> None:
    await world.add(outbox_event(7))
    (waiting,) = world.database.outbox.values()

    await world.relay.run_once()

    (message,) = world.publisher.messages
    assert message.body == b'{"number":7}'
    assert message.routing_key == "order.created"
    assert message.message_id == waiting.row.message_id
    assert message.headers == {"traceparent": outbox_event(7).traceparent}


async def test_rows_are_removed_only_after_their_confirm(world: World, virtual_time: VirtualTime) -> None:
    await world.add(*events(2))
    world.publisher.confirming.clear()
    async with running(world):
        await virtual_time.advance(600)
        assert world.waiting == [0, 1]
        world.publisher.confirming.set()
        await virtual_time.settle()
        assert world.waiting == []


async def test_it_is_noted_how_long_the_confirms_took(world: World, virtual_time: VirtualTime) -> None:
    await world.add(*events(2))
    world.publisher.confirming.clear()
    async with running(world):
        await virtual_time.advance(2.5)
        world.publisher.confirming.set()
        await virtual_time.settle()

    (call,) = world.outbox.calls
    assert call.publish_seconds == 2.5


async def test_what_waits_is_told_for_what(world: World) -> None:
    world.publisher.answer = answering({"order.created": UNROUTABLE})
    await world.add(*events(1))

    assert world.relay.waits_for("order.created") == "the next turn of a relay"
    await world.relay.run_once()
    assert "a queue that takes order.created" in world.relay.waits_for("order.created")
    assert world.relay.waits_for("order.cancelled") == "the next turn of a relay"


async def test_a_backlog_is_published_batch_after_batch_without_a_pause(virtual_time: VirtualTime) -> None:
    world = World.of(RelaySettings(batch_rows=10))
    await world.add(*events(35))
    async with running(world):
        await virtual_time.settle()
        assert world.published == list(range(35))
    assert [len(messages) for _, messages in world.publisher.batches] == [10, 10, 10, 5]


async def test_a_notified_commit_is_published_at_once(world: World, virtual_time: VirtualTime) -> None:
    async with running(world):
        await virtual_time.advance(100.25)
        await world.add(outbox_event(1))
        world.wakeup.notify()
        await virtual_time.settle()
        assert world.published == [1]


async def test_a_commit_of_another_process_is_found_by_polling(
    world: World, virtual_time: VirtualTime
) -> None:
    async with running(world):
        await virtual_time.advance(100.25)
        await world.add(outbox_event(1))
        await virtual_time.settle()
        assert world.published == []
        await virtual_time.advance(RelaySettings().poll_seconds)
        assert world.published == [1]


async def test_two_relays_publish_each_event_once(virtual_time: VirtualTime) -> None:
    world = World.of(RelaySettings(batch_rows=7))
    settings, metrics = RelaySettings(batch_rows=5), Metrics()
    other = Relay(world.outbox, world.publisher, wakeup=Wakeup(), metrics=metrics, settings=settings)
    await world.add(*events(100))
    async with running(world):
        other_task = asyncio.create_task(other.run())
        await virtual_time.advance(10)
        other.stop()
        await other_task
    assert sorted(world.published) == list(range(100))


# routes


async def test_a_route_without_a_queue_is_closed_and_others_flow_on(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.answer = answering({"nobody.reads": UNROUTABLE})
    await world.add(*events(3, "nobody.reads"), *events(2, start=10))
    async with running(world):
        await virtual_time.settle()
        assert world.published == [10, 11]
        await world.add(*events(2, start=20))
        world.wakeup.notify()
        await virtual_time.settle()
        assert world.published == [10, 11, 20, 21]
        await virtual_time.advance(3600)
    assert world.waiting == [0, 1, 2]
    assert world.attempts == [0, 0, 0]
    assert world.counted("events_failed_total") == 0
    assert await FakeDeadLetters(world.database).list(limit=10) == []


@pytest.mark.parametrize("outcome", [UNROUTABLE, REFUSED])
async def test_what_the_broker_turns_away_is_counted_each_time(
    world: World, virtual_time: VirtualTime, outcome: PublishOutcome
) -> None:
    def turned_away() -> float:
        labels = {"event_type": "nobody.reads", "reason": outcome.value}
        return world.metrics.registry.get_sample_value("events_turned_away_total", labels) or 0

    world.publisher.answer = answering({"nobody.reads": outcome})
    await world.add(*events(3, "nobody.reads"))
    async with running(world):
        await virtual_time.settle()
        assert turned_away() == 3
        await virtual_time.advance(60)
        assert turned_away() > 5
    assert (world.counted("publish_duration_seconds_count") or 0) > 3


@pytest.mark.parametrize("outcome", [UNROUTABLE, REFUSED])
async def test_a_closed_route_is_probed_with_one_event_at_growing_intervals(
    world: World, virtual_time: VirtualTime, outcome: PublishOutcome
) -> None:
    world.publisher.answer = answering({"order.created": outcome})
    await world.add(*events(5))
    async with running(world):
        await virtual_time.advance(600)

    (_, first), *probes = world.publisher.batches
    assert len(first) == 5
    assert {len(messages) for _, messages in probes} == {1}
    times = [at for at, _ in world.publisher.batches]
    intervals = [later - earlier for earlier, later in pairwise(times)]
    # Up to 10 s, ±20 %, and as late as the relay polls.
    assert intervals[0] <= 1
    assert max(intervals) <= 13
    assert min(intervals[-20:]) >= 8
    assert {call.limit for call in world.outbox.calls if call.only} == {1}


@pytest.mark.parametrize("outcome", [UNROUTABLE, REFUSED])
async def test_a_route_opens_with_its_first_success(
    world: World, virtual_time: VirtualTime, outcome: PublishOutcome
) -> None:
    world.publisher.answer = answering({"order.created": outcome})
    await world.add(*events(20))
    async with running(world):
        await virtual_time.advance(600)
        world.publisher.answer = confirm_everything
        await virtual_time.advance(13)
    assert world.published == list(range(20))
    assert world.attempts == []
    (_, last) = world.publisher.batches[-1]
    assert len(last) == 19


async def test_a_closed_route_whose_rows_are_gone_is_forgotten(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.answer = lambda message: UNROUTABLE
    await world.add(*events(1))
    async with running(world):
        await virtual_time.advance(1)
        world.database.outbox.clear()
        await virtual_time.advance(60)
        # Were it not forgotten, its overdue probe would let the relay turn without a pause, for ever.
        assert world.relay._closed.event_types() == []


async def test_a_route_that_closes_again_is_probed_soon_again(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.answer = answering({"order.created": UNROUTABLE})
    await world.add(outbox_event(0))
    async with running(world):
        await virtual_time.advance(600)
        world.publisher.answer = confirm_everything
        await virtual_time.advance(13)
        world.publisher.answer = answering({"order.created": UNROUTABLE})
        await world.add(outbox_event(1))
        await virtual_time.advance(1)
        world.publisher.answer = confirm_everything
        await virtual_time.advance(2)
    assert world.published == [0, 1]


async def test_a_queue_that_takes_only_some_events_loses_none(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.answer = lambda message: CONFIRMED if numbers(message)[0] % 2 else REFUSED
    await world.add(*events(10))
    async with running(world):
        await virtual_time.advance(60)
        assert sorted(world.published) == [1, 3, 5, 7, 9]
        world.publisher.answer = confirm_everything
        await virtual_time.advance(60)
    assert sorted(world.published) == list(range(10))


# rejected messages


@pytest.mark.parametrize("culprit", range(7))
async def test_a_rejected_message_is_found_and_its_neighbours_are_published(
    world: World, virtual_time: VirtualTime, culprit: int
) -> None:
    world.publisher.answer = rejecting(culprit)
    await world.add(*events(7))
    async with running(world):
        await virtual_time.settle()
        assert sorted([*world.published, culprit]) == list(range(7))
    assert (world.waiting, world.attempts) == ([culprit], [1])
    assert world.counted("events_failed_total") == 1


async def test_a_message_that_is_always_rejected_becomes_a_dead_letter(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.answer = rejecting(3)
    await world.add(*events(5))
    async with running(world):
        await virtual_time.advance(29)
        assert world.attempts == [1]
        await virtual_time.advance(2)
        assert world.attempts == [2]
        await virtual_time.advance(62)
    assert world.waiting == []
    (letter,) = await FakeDeadLetters(world.database).list(limit=10)
    assert (letter.attempts, letter.body) == (3, b'{"number":3}')
    assert "no such content" in letter.reason
    assert world.counted("events_failed_total") == 3
    assert world.counted("events_moved_to_dlq_total") == 1


async def test_several_culprits_are_all_found(world: World, virtual_time: VirtualTime) -> None:
    world.publisher.answer = rejecting(0, 3, 4)
    await world.add(*events(8))
    async with running(world):
        await virtual_time.settle()
    assert sorted(world.published) == [1, 2, 5, 6, 7]
    assert world.attempts == [1, 1, 1]


async def test_a_culprit_within_an_array_is_found(virtual_time: VirtualTime) -> None:
    world = World.of(RelaySettings(events_per_message=100))
    world.publisher.answer = rejecting(5)
    await world.add(*events(8))
    async with running(world):
        await virtual_time.settle()
    assert sorted(world.published) == [0, 1, 2, 3, 4, 6, 7]
    assert (world.waiting, world.attempts) == ([5], [1])


# back-pressure


class Turns(BackPressure):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bool] = []

    def turn_ended(self, *, behind: bool) -> None:
        self.told.append(behind)
        super().turn_ended(behind=behind)


async def test_back_pressure_is_told_of_each_turn_and_never_held_by_an_outage(world: World) -> None:
    turns = Turns()
    settings = RelaySettings(batch_rows=2)
    relay = Relay(
        world.outbox,
        world.publisher,
        wakeup=world.wakeup,
        metrics=world.metrics,
        settings=settings,
        back_pressure=turns,
    )
    world.wakeup.notify()
    await world.add(*events(5))
    for _ in range(3):
        await relay.run_once()
    assert turns.told == [True, True, False]
    await world.add(*events(5))
    await relay.run_once()
    world.publisher.answer = failing(BrokerUnavailable())
    with pytest.raises(BrokerUnavailable):
        await relay.run_once()
    assert turns.told[3:] == [True, False]


# outages


async def test_an_outage_of_the_broker_is_no_attempt(world: World, virtual_time: VirtualTime) -> None:
    world.publisher.answer = failing(BrokerUnavailable())
    await world.add(*events(3))
    async with running(world):
        await virtual_time.advance(3600)
        assert (world.waiting, world.attempts) == ([0, 1, 2], [0, 0, 0])
        world.publisher.answer = confirm_everything
        await virtual_time.advance(10)
    assert world.published == [0, 1, 2]
    assert world.counted("events_failed_total") == 0


async def test_nothing_is_claimed_while_the_broker_is_away(world: World, virtual_time: VirtualTime) -> None:
    world.publisher.up.clear()
    await world.add(outbox_event(0))
    async with running(world):
        await virtual_time.advance(3600)
        assert world.publisher.batches == []
        world.publisher.up.set()
        await virtual_time.settle()
        assert world.published == [0]


async def test_an_outage_of_the_database_is_waited_for(world: World, virtual_time: VirtualTime) -> None:
    await world.add(*events(2))
    world.database.available = False
    async with running(world):
        await virtual_time.advance(3600)
        world.database.available = True
        await virtual_time.advance(10)
    assert world.published == [0, 1]


async def test_a_removal_that_fails_leaves_the_rows_to_be_published_again(
    world: World, virtual_time: VirtualTime
) -> None:
    await world.add(*events(2))
    world.publisher.confirming.clear()
    async with running(world):
        await virtual_time.settle()
        world.database.available = False
        world.publisher.confirming.set()
        await virtual_time.advance(60)
        assert world.waiting == [0, 1]
        world.database.available = True
        await virtual_time.advance(10)
    assert world.waiting == []
    assert world.published == [0, 1, 0, 1]


async def test_an_outage_while_looking_for_the_culprit_counts_no_attempt(
    world: World, virtual_time: VirtualTime
) -> None:
    def answer(message: Message) -> PublishOutcome:
        if numbers(message) == [2] and len(world.publisher.batches) > 1:
            raise BrokerUnavailable
        return rejecting(0)(message)

    world.publisher.answer = answer
    await world.add(*events(4))
    async with running(world):
        await virtual_time.advance(3600)
        assert (world.waiting, world.attempts) == ([0, 1, 2, 3], [0, 0, 0, 0])
        world.publisher.answer = rejecting(0)
        await virtual_time.advance(10)
    assert (world.waiting, world.attempts) == ([0], [1])


# stopping


async def test_stopping_finishes_the_batch_in_hand_and_takes_no_other(
    virtual_time: VirtualTime,
) -> None:
    world = World.of(RelaySettings(batch_rows=2))
    world.publisher.confirming.clear()
    await world.add(*events(4))
    task = asyncio.create_task(world.relay.run())
    await virtual_time.settle()

    world.relay.stop()
    await virtual_time.advance(2)
    assert not task.done()
    world.publisher.confirming.set()
    await task

    assert (world.published, world.waiting) == ([0, 1], [2, 3])


async def test_stopping_does_not_wait_for_a_confirm_that_never_comes_and_keeps_the_rows(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.confirming.clear()
    await world.add(*events(2))
    task = asyncio.create_task(world.relay.run())
    await virtual_time.settle()

    world.relay.stop()
    await virtual_time.advance(10)

    assert task.done()
    assert (world.waiting, world.attempts) == ([0, 1], [0, 0])


async def test_an_idle_relay_stops_at_once(world: World, virtual_time: VirtualTime) -> None:
    task = asyncio.create_task(world.relay.run())
    await virtual_time.advance(0.5)
    world.relay.stop()
    await virtual_time.settle()
    assert task.done()


async def test_a_relay_that_waits_for_the_broker_stops_at_once(
    world: World, virtual_time: VirtualTime
) -> None:
    world.publisher.up.clear()
    await world.add(outbox_event(0))
    task = asyncio.create_task(world.relay.run())
    await virtual_time.advance(60)
    world.relay.stop()
    await virtual_time.settle()
    assert task.done()
    assert world.outbox.calls == []


async def test_a_cancelled_relay_releases_its_rows(world: World, virtual_time: VirtualTime) -> None:
    world.publisher.confirming.clear()
    await world.add(*events(2))
    task = asyncio.create_task(world.relay.run())
    await virtual_time.settle()
    task.cancel()
    await asyncio.wait({task})
    async with world.outbox.claim(10) as claim:
        assert [row.attempts for row in claim.rows] == [0, 0]


def failing(error: Exception) -> Answer:
    def answer(_: Message) -> PublishOutcome:
        raise error

    return answer
