import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from structlog.testing import capture_logs

from service_kit.consumer import Consumer, Handled, Never, Outcome, Received, RetryLater
from service_kit.errors import DatabaseUnavailable, MalformedEvent
from service_kit.failures import DELAY_SECONDS_MAX, DeadLetter, FailedEvent, Postponed
from service_kit.message import MESSAGE_BYTES_MAX, Delivery
from service_kit.observability.metrics import Metrics
from service_kit.retry import Backoff, RetryPolicy
from service_kit.sources import BrokerSource, RetrySource
from service_kit.testing.fakes import FakeDatabase, FakeDeadLetters, FakeFailures
from service_kit.testing.fakes_broker import FakeSubscription
from service_kit.testing.virtual_time import VirtualTime, loop_clock

RETRY_POLICY = RetryPolicy(attempts_max=4, backoff=Backoff(first_seconds=60, max_seconds=3600, jitter=0))


@dataclass(frozen=True, slots=True)
class StubEvent:
    """`{"key": "o1:1"}`: the first version of the order `o1`."""

    key: str

    @property
    def subject(self) -> str:
        return self.key.partition(":")[0]


class ScriptedHandler:
    """Handles all but what `script` says of a key. `batches` holds the keys of each call, `calls` when."""

    def __init__(self, journal: list[str]) -> None:
        self.script: dict[str, Callable[[Received[StubEvent]], Outcome]] = {}
        self.outage = False
        self.takes_seconds = 0.0
        self.batches: list[list[str]] = []
        self.calls: list[tuple[float, Received[StubEvent]]] = []
        self.handled: list[str] = []
        self._journal = journal

    def decode(self, event_type: str, body: bytes) -> StubEvent:
        try:
            return StubEvent(json.loads(body)["key"])
        except (ValueError, KeyError) as error:
            raise MalformedEvent(f"{error}") from error

    async def handle(self, events: Sequence[Received[StubEvent]]) -> Sequence[Outcome]:
        self.batches.append([received.event.key for received in events])
        self.calls += [(asyncio.get_running_loop().time(), received) for received in events]
        await asyncio.sleep(self.takes_seconds)
        if self.outage:
            raise DatabaseUnavailable("database: scripted")
        outcomes = [self._outcome(received) for received in events]
        self._journal.append("handled")
        self.handled += [
            received.event.key
            for received, outcome in zip(events, outcomes, strict=True)
            if isinstance(outcome, Handled)
        ]
        return outcomes

    def _outcome(self, received: Received[StubEvent]) -> Outcome:
        script = self.script.get(received.event.key)
        return script(received) if script else Handled()

    def attempts(self, key: str) -> list[tuple[float, int]]:
        """When, and which attempt it was said to be."""
        return [(at, received.attempt) for at, received in self.calls if received.event.key == key]


class JournalFailures(FakeFailures):
    """`broken` raises what no store should raise."""

    def __init__(self, database: FakeDatabase, journal: list[str]) -> None:
        super().__init__(database)
        self.broken = False
        self._journal = journal

    async def set_aside(
        self, postponed: Sequence[Postponed], dead: Sequence[FailedEvent], *, ended: Collection[int] = ()
    ) -> None:
        if self.broken:
            raise ValueError("a defect")
        await super().set_aside(postponed, dead, ended=ended)
        self._journal.append("set aside")


class JournalSubscription(FakeSubscription):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self._journal = journal

    async def acknowledge(self, up_to: Delivery) -> None:
        await super().acknowledge(up_to)
        self._journal.append("acknowledged")


class World:
    """A queue, a handler, and the two consumers of a service: of the queue, and of retries that are due."""

    def __init__(self, *, batch_size: int = 500) -> None:
        self.journal: list[str] = []
        self.database = FakeDatabase(loop_clock)
        self.failures = JournalFailures(self.database, self.journal)
        self.queue = JournalSubscription(self.journal)
        self.handler = ScriptedHandler(self.journal)
        self.metrics = Metrics()
        sources = (BrokerSource(self.queue, self.failures), RetrySource(self.failures))
        self.consumers = [
            Consumer(
                source,
                self.handler,
                metrics=self.metrics,
                batch_size=batch_size,
                retry_policy=RETRY_POLICY,
                subject_field="order_id",
                random=Random(0),
            )
            for source in sources
        ]

    def put(self, *keys: str) -> None:
        """A message for each event."""
        for key in keys:
            self.queue.put(body(key), message_id=f"message {key}", headers={"traceparent": f"trace {key}"})

    @property
    def acknowledged(self) -> list[str]:
        return [json.loads(delivery.body)["key"] for delivery in self.queue.acknowledged]

    @property
    def retries(self) -> list[tuple[str, int]]:
        """Keys of the events that wait for a retry, and their attempts so far."""
        retries = self.database.retries.values()
        return [(retry.event.event_key, retry.event.attempt) for retry in retries]

    async def dead(self) -> Sequence[DeadLetter]:
        return await FakeDeadLetters(self.database).list(limit=100)

    def counted(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


def body(key: str) -> bytes:
    return json.dumps({"key": key}).encode()


def retry_later(
    reason: str = "no stock", *, delay_seconds: float | None = None, counts: bool = True
) -> Callable[[Received[StubEvent]], Outcome]:
    return lambda _: RetryLater(reason=reason, delay_seconds=delay_seconds, counts=counts)


def raising(error: Exception) -> Callable[[Received[StubEvent]], Outcome]:
    def script(_: Received[StubEvent]) -> Outcome:
        raise error

    return script


@pytest.fixture
async def world() -> World:
    return World()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(consumer.run()) for consumer in world.consumers]
    try:
        yield tasks
    finally:
        for consumer in world.consumers:
            consumer.stop()
        await asyncio.gather(*tasks)


# handled


async def test_handled_events_are_acknowledged_together(world: World, virtual_time: VirtualTime) -> None:
    world.put("a:1", "b:1", "c:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.batches == [["a:1", "b:1", "c:1"]]
    assert world.acknowledged == ["a:1", "b:1", "c:1"]
    assert world.journal == ["handled", "acknowledged"]
    assert world.retries == []
    assert await world.dead() == []


async def test_the_handler_is_told_attempt_and_trace(world: World, virtual_time: VirtualTime) -> None:
    world.put("a:1")
    world.queue.put(body("b:1"), headers={"traceparent": b"no text"})
    async with running(world):
        await virtual_time.settle()
    (_, first), (_, second) = world.handler.calls
    assert (first.attempt, first.last_error, first.traceparent) == (1, None, "trace a:1")
    assert second.traceparent is None


async def test_no_more_than_a_batch_is_taken_at_once(virtual_time: VirtualTime) -> None:
    world = World(batch_size=2)
    world.put("a:1", "b:1", "c:1", "d:1", "e:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.batches == [["a:1", "b:1"], ["c:1", "d:1"], ["e:1"]]
    assert world.counted("consumer_batch_size_count") == 3
    assert world.counted("consumer_batch_size_sum") == 5


@pytest.mark.parametrize(("first", "second_begins_at"), [(1, 0.02), (16, 0.03)])
async def test_after_a_crowd_that_took_long_the_next_batch_gathers(
    world: World, virtual_time: VirtualTime, first: int, second_begins_at: float
) -> None:
    world.handler.takes_seconds = 0.02
    world.put(*(f"{number}:1" for number in range(first)))
    async with running(world):
        await asyncio.sleep(0.01)
        world.put("late:1")
        await asyncio.sleep(0.015)
        world.put("later:1")
        await asyncio.sleep(1.0)
    ((began_at, _),) = world.handler.attempts("late:1")
    assert began_at == pytest.approx(second_begins_at)
    together = ["late:1", "later:1"] in world.handler.batches
    assert together is (first == 16)


async def test_events_of_one_subject_are_handled_one_after_the_other(
    world: World, virtual_time: VirtualTime
) -> None:
    world.put("a:1", "b:1", "a:2", "c:1", "a:3", "b:2")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.batches == [["a:1", "b:1", "c:1"], ["a:2", "b:2"], ["a:3"]]
    assert len(world.queue.acknowledged) == 6


async def test_a_duplicate_in_the_same_batch_comes_in_a_later_wave(
    world: World, virtual_time: VirtualTime
) -> None:
    world.put("a:1", "a:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.batches == [["a:1"], ["a:1"]]


async def test_a_message_may_carry_many_events(world: World, virtual_time: VirtualTime) -> None:
    world.queue.put(b"[" + b",".join(body(key) for key in ("a:1", "b:1", "a:2")) + b"]")
    world.put("c:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.batches == [["a:1", "b:1", "c:1"], ["a:2"]]


# never


@pytest.mark.parametrize(
    "poison", [b"", b"not JSON", b"{}", b'{"key":', b"[not JSON", b"\xff\0", b"null", b"[]", b"[" * 100_000]
)
async def test_poison_is_set_aside_at_once_and_its_neighbours_are_handled(
    world: World, virtual_time: VirtualTime, poison: bytes
) -> None:
    world.put("a:1")
    world.queue.put(poison, message_id="poison", headers={"x": 1})
    world.put("b:1")

    def decode(event_type: str, body: bytes) -> StubEvent:
        if body == b"null":
            raise TypeError("a defect of decode is the fault of the message that shows it")
        return ScriptedHandler.decode(world.handler, event_type, body)

    world.handler.decode = decode  # type: ignore[method-assign]
    async with running(world):
        await virtual_time.settle()

    assert world.handler.batches == [["a:1", "b:1"]]
    assert len(world.queue.acknowledged) == 3
    (letter,) = await world.dead()
    assert (letter.body, letter.message_id, letter.headers) == (poison, "poison", {"x": 1})
    assert letter.reason
    assert letter.attempts == 1
    assert world.counted("events_moved_to_dlq_total") == 1


async def test_a_body_that_is_too_large_is_set_aside_whole(world: World, virtual_time: VirtualTime) -> None:
    large = b'{"key":"' + b"x" * MESSAGE_BYTES_MAX + b'"}'
    world.queue.put(large)
    world.put("a:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.handled == ["a:1"]
    (letter,) = await world.dead()
    assert letter.body == large
    assert f"more than {MESSAGE_BYTES_MAX}" in letter.reason


async def test_a_bad_event_of_an_array_is_set_aside_alone(world: World, virtual_time: VirtualTime) -> None:
    world.queue.put(b'[{"key":"a:1"}, {"no key":1} ,{"key":"b:1"}]', message_id="m")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.handled == ["a:1", "b:1"]
    (letter,) = await world.dead()
    assert (letter.body, letter.message_id) == (b'{"no key":1}', "m")


async def test_equal_poison_is_one_dead_letter_seen_twice(world: World, virtual_time: VirtualTime) -> None:
    world.queue.put(b"poison", message_id="m")
    world.queue.put(b"poison", message_id="m")
    world.queue.put(b"poison", message_id="another")
    async with running(world):
        await virtual_time.settle()
    assert sorted(letter.times_seen for letter in await world.dead()) == [1, 2]


async def test_an_event_that_can_never_be_handled_is_set_aside_at_once(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.script["b:1"] = lambda _: Never(reason="no such currency")
    world.put("a:1", "b:1", "c:1")
    async with running(world):
        await virtual_time.settle()
    assert world.handler.handled == ["a:1", "c:1"]
    (letter,) = await world.dead()
    assert (letter.event_key, letter.reason, letter.attempts) == ("b:1", "no such currency", 1)
    assert (letter.body, letter.message_id) == (body("b:1"), "message b:1")
    assert world.retries == []


# again later


async def test_each_line_about_an_event_has_the_ids_of_its_order_and_its_trace(
    world: World, virtual_time: VirtualTime
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    world.handler.script["a:1"] = lambda _: Never(reason="not for us")
    world.handler.script["b:1"] = raising(ZeroDivisionError())
    for contents in (body("a:1"), body("b:1"), b"no JSON"):
        world.queue.put(contents, headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})

    with capture_logs() as lines:
        async with running(world):
            await asyncio.sleep(1)

    told = [(line["event"], line.get("order_id")) for line in lines]
    assert sorted(told, key=str) == [
        ("event_failed", "b"),
        ("event_set_aside", "a"),
        ("event_set_aside", None),
    ]
    assert {line["trace_id"] for line in lines} == {trace_id}


async def test_what_becomes_of_events_is_counted(world: World, virtual_time: VirtualTime) -> None:
    world.handler.script["b:1"] = lambda _: Never(reason="not for us")
    world.handler.script["c:1"] = retry_later(delay_seconds=3600)
    world.put("a:1", "b:1", "c:1", "d:1")

    async with running(world):
        await asyncio.sleep(1)

    names = ("events_handled_total", "events_failed_total", "events_moved_to_dlq_total")
    assert [world.counted(name) for name in names] == [2, 2, 1]
    assert world.counted("consumer_batch_duration_seconds_count") == 1


async def test_each_failed_turn_is_counted_though_only_the_first_is_logged(
    world: World, virtual_time: VirtualTime
) -> None:
    failures: list[Exception] = []
    world.consumers[0].on_failure = failures.append
    world.handler.outage = True
    world.put("a:1")

    async with running(world):
        await asyncio.sleep(2)
        world.handler.outage = False
        await asyncio.sleep(10)

    assert len(failures) > 2
    assert world.counted("events_handled_total") == 1


async def test_everything_is_stored_before_it_is_acknowledged(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.script["b:1"] = retry_later()
    world.put("a:1", "b:1")
    world.queue.put(b"poison")
    async with running(world):
        await virtual_time.settle()
    assert world.journal == ["handled", "set aside", "acknowledged"]
    assert world.retries == [("b:1", 1)]
    assert len(await world.dead()) == 1


async def test_a_failing_event_is_tried_by_the_schedule_and_set_aside_after_the_last_attempt(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.script["a:1"] = retry_later()
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(3600)

    # A minute, two and four after one another, as late as the retries are polled.
    attempts = world.handler.attempts("a:1")
    assert [attempt for _, attempt in attempts] == [1, 2, 3, 4]
    pauses = [later[0] - earlier[0] for earlier, later in pairwise(attempts)]
    assert all(planned <= pause <= planned + 1 for planned, pause in zip([60, 120, 240], pauses, strict=True))
    (letter,) = await world.dead()
    assert (letter.event_key, letter.attempts, letter.reason) == ("a:1", 4, "no stock")
    assert letter.headers == {"traceparent": "trace a:1"}
    assert world.retries == []
    assert world.counted("events_failed_total") == 4
    assert world.counted("events_moved_to_dlq_total") == 1


async def test_a_retry_knows_why_the_attempt_before_failed(world: World, virtual_time: VirtualTime) -> None:
    world.handler.script["a:1"] = lambda received: (
        RetryLater(reason="no stock") if received.attempt == 1 else Handled()
    )
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(100)
    assert [received.last_error for _, received in world.handler.calls] == [None, "no stock"]
    assert {received.traceparent for _, received in world.handler.calls} == {"trace a:1"}
    assert world.handler.handled == ["a:1"]
    assert world.retries == []


async def test_the_handler_may_choose_the_delay(world: World, virtual_time: VirtualTime) -> None:
    world.handler.script["a:1"] = retry_later(delay_seconds=600)
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(599)
        assert len(world.handler.calls) == 1
        await virtual_time.advance(2)
        assert len(world.handler.calls) == 2


async def test_no_delay_means_at_once(world: World, virtual_time: VirtualTime) -> None:
    world.handler.script["a:1"] = lambda received: (
        RetryLater(reason="again", delay_seconds=0) if received.attempt == 1 else Handled()
    )
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(2)
    assert world.handler.handled == ["a:1"]


@pytest.mark.parametrize("delay_seconds", [float("inf"), float("nan"), 1e300, -1e300])
async def test_an_impossible_delay_is_kept_within_a_year(
    world: World, virtual_time: VirtualTime, delay_seconds: float
) -> None:
    world.handler.script["a:1"] = retry_later(delay_seconds=delay_seconds)
    world.put("a:1")
    consumer = world.consumers[0]
    await consumer.run_once()
    (retry,) = world.database.retries.values()
    assert 0 <= (retry.due_at - loop_clock()).total_seconds() <= DELAY_SECONDS_MAX
    assert world.acknowledged == ["a:1"]


async def test_what_is_no_attempt_is_never_counted(world: World, virtual_time: VirtualTime) -> None:
    world.handler.script["a:1"] = retry_later("the shop is closed", delay_seconds=60, counts=False)
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(3600)
        attempts = world.handler.attempts("a:1")
        assert len(attempts) > 50
        assert {attempt for _, attempt in attempts} == {1}
        world.handler.script.clear()
        await virtual_time.advance(100)
    assert world.handler.handled == ["a:1"]
    assert await world.dead() == []


async def test_what_is_no_attempt_keeps_the_attempts_before_it(
    world: World, virtual_time: VirtualTime
) -> None:
    outcomes = iter([retry_later(), retry_later(counts=False), retry_later()])
    world.handler.script["a:1"] = lambda received: next(outcomes)(received)
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(200)
    assert [attempt for _, attempt in world.handler.attempts("a:1")] == [1, 2, 2]


async def test_an_event_that_waits_for_its_retry_is_not_handled_out_of_turn(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.script["a:1"] = retry_later()
    world.put("a:1")
    async with running(world):
        await virtual_time.settle()
        world.put("a:1", "b:1")
        await virtual_time.settle()
        assert world.handler.batches == [["a:1"], ["b:1"]]
        assert world.acknowledged == ["a:1", "a:1", "b:1"]
        assert world.retries == [("a:1", 1)]


# a handler that raises


@pytest.mark.parametrize("culprit", range(8))
async def test_an_event_that_makes_the_handler_raise_is_found_by_halving(
    world: World, virtual_time: VirtualTime, culprit: int
) -> None:
    keys = [f"{number}:1" for number in range(8)]
    world.handler.script[keys[culprit]] = raising(LookupError("no such table row"))
    world.put(*keys)
    async with running(world):
        await virtual_time.settle()
    assert sorted([*world.handler.handled, keys[culprit]]) == keys
    assert world.retries == [(keys[culprit], 1)]
    (retry,) = world.database.retries.values()
    assert retry.event.reason == "LookupError: no such table row"
    assert world.acknowledged == keys
    assert len(world.handler.batches) == 7


async def test_a_handler_that_always_raises_delays_no_other_event(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.script["a:1"] = raising(ValueError("a defect"))
    world.put("a:1", "b:1")
    async with running(world):
        await virtual_time.advance(600)
    assert world.handler.handled == ["b:1"]
    (letter,) = await world.dead()
    assert (letter.event_key, letter.attempts) == ("a:1", 4)


async def test_a_handler_that_forgets_an_outcome_is_treated_as_one_that_raises(
    world: World, virtual_time: VirtualTime
) -> None:
    async def forgetful(events: Sequence[Received[StubEvent]]) -> Sequence[Outcome]:
        return [Handled() for received in events if received.event.key != "b:1"]

    world.handler.handle = forgetful  # type: ignore[method-assign]
    world.put("a:1", "b:1", "c:1")
    async with running(world):
        await virtual_time.settle()
    assert world.retries == [("b:1", 1)]
    assert len(world.queue.acknowledged) == 3


# outages


async def test_an_outage_repeats_the_same_batch_and_counts_no_attempt(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.outage = True
    world.put("a:1", "b:1")
    async with running(world):
        await virtual_time.advance(3600)
        world.put("c:1")
        assert len(world.handler.batches) > 100
        assert world.acknowledged == []
        world.handler.outage = False
        await virtual_time.advance(10)
    assert world.handler.batches[:-1] == [["a:1", "b:1"]] * (len(world.handler.batches) - 1)
    assert world.handler.batches[-1] == ["c:1"]
    assert world.handler.handled == ["a:1", "b:1", "c:1"]
    assert {received.attempt for _, received in world.handler.calls} == {1}
    assert (world.retries, await world.dead()) == ([], [])


async def test_the_pauses_of_an_outage_grow_to_five_seconds(world: World, virtual_time: VirtualTime) -> None:
    world.handler.outage = True
    world.put("a:1")
    async with running(world):
        await virtual_time.advance(600)
        times = [at for at, _ in world.handler.calls]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 0.08 <= pauses[0] <= 0.12
    assert max(pauses) <= 6
    assert min(pauses[-20:]) >= 4


async def test_an_outage_while_setting_aside_handles_nothing_again(
    world: World, virtual_time: VirtualTime
) -> None:
    def fail_and_cut(_: Received[StubEvent]) -> Outcome:
        world.database.available = False
        return RetryLater(reason="no stock")

    world.handler.script["b:1"] = fail_and_cut
    world.put("a:1", "b:1")
    async with running(world):
        await virtual_time.advance(30)
        assert world.acknowledged == []
        world.database.available = True
        await virtual_time.advance(10)
    assert world.handler.batches == [["a:1", "b:1"]]
    assert world.retries == [("b:1", 1)]
    assert world.acknowledged == ["a:1", "b:1"]


async def test_a_batch_whose_connection_is_lost_comes_again(world: World, virtual_time: VirtualTime) -> None:
    world.database.available = False
    world.put("a:1", "b:1")
    async with running(world):
        await virtual_time.advance(60)
        world.queue.lose_connection()
        await virtual_time.advance(60)
        assert world.acknowledged == []
        world.database.available = True
        await virtual_time.advance(20)
    assert world.handler.batches == [["a:1", "b:1"]] * 2
    assert world.acknowledged == ["a:1", "b:1"]
    assert all(delivery.redelivered for delivery in world.queue.acknowledged)
    assert await world.dead() == []


async def test_an_unexpected_error_never_loses_the_batch_in_hand(
    world: World, virtual_time: VirtualTime
) -> None:
    world.failures.broken = True
    world.queue.put(b"poison")
    async with running(world):
        await virtual_time.advance(1)
        world.put("a:1")
        await virtual_time.advance(60)
        assert world.queue.acknowledged == []
        world.failures.broken = False
        await virtual_time.advance(10)
    assert [letter.body for letter in await world.dead()] == [b"poison"]
    assert world.handler.handled == ["a:1"]
    assert len(world.queue.acknowledged) == 2


# stopping


async def test_stopping_finishes_the_batch_in_hand(world: World, virtual_time: VirtualTime) -> None:
    handling, may_finish = asyncio.Event(), asyncio.Event()

    async def slow(events: Sequence[Received[StubEvent]]) -> Sequence[Outcome]:
        handling.set()
        await may_finish.wait()
        return [Handled() for _ in events]

    world.handler.handle = slow  # type: ignore[method-assign]
    world.put("a:1", "b:1")
    async with running(world) as tasks:
        await handling.wait()
        for consumer in world.consumers:
            consumer.stop()
        world.put("c:1")
        await virtual_time.advance(60)
        assert not tasks[0].done()
        assert tasks[1].done()
        may_finish.set()
    assert world.acknowledged == ["a:1", "b:1"]


async def test_stopping_during_an_outage_leaves_the_batch_to_be_delivered_again(
    world: World, virtual_time: VirtualTime
) -> None:
    world.handler.outage = True
    world.put("a:1")
    async with running(world) as tasks:
        await virtual_time.advance(60)
        for consumer in world.consumers:
            consumer.stop()
        await virtual_time.settle()
        assert all(task.done() for task in tasks)
    assert world.acknowledged == []
    world.queue.lose_connection()
    assert [delivery.body for delivery in await world.queue.receive(10)] == [body("a:1")]


async def test_an_idle_consumer_stops_at_once(world: World, virtual_time: VirtualTime) -> None:
    async with running(world) as tasks:
        await virtual_time.advance(60.5)
        for consumer in world.consumers:
            consumer.stop()
        await virtual_time.settle()
        assert all(task.done() for task in tasks)


async def test_what_fails_is_stored_with_its_subject(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.handler.script["o1:1"] = retry_later()
    world.handler.script["o2:1"] = lambda _: Never(reason="never")
    stored: dict[str, str | None] = {}

    async def set_aside(
        postponed: Sequence[Postponed], dead: Sequence[FailedEvent], *, ended: Collection[int] = ()
    ) -> None:
        failed = [*(item.event for item in postponed), *dead]
        stored.update({event.event_key[:9]: event.subject for event in failed})

    monkeypatch.setattr(world.failures, "set_aside", set_aside)
    world.put("o1:1", "o2:1")
    world.queue.put(b'{"order_id": "o3", "key": oops')

    await world.consumers[0].run_once()

    assert stored == {"o1:1": "o1", "o2:1": "o2", "malformed": "o3"}


async def test_a_handler_is_told_when_an_event_was_received_and_as_which_bytes(world: World) -> None:
    world.queue.put(b'[{"key": "o1:1"},  {"key":"o2:1"}]')
    now = asyncio.get_running_loop().time()

    await world.consumers[0].run_once()

    told = [(received.body, received.received_at) for _, received in world.handler.calls]
    assert told == [(b'{"key": "o1:1"}', now), (b'{"key":"o2:1"}', now)]
