import asyncio

import pytest

from service_kit.errors import BrokerUnavailable, DatabaseUnavailable
from service_kit.failures import Postponed
from service_kit.sources import BrokerSource, RetrySource, Settlement
from service_kit.testing.fakes import FakeDatabase, FakeFailures
from service_kit.testing.fakes_broker import FakeSubscription
from service_kit.testing.stores_conformance import failed_event
from service_kit.testing.virtual_time import VirtualTime, loop_clock


@pytest.fixture
async def database() -> FakeDatabase:
    return FakeDatabase(loop_clock)


@pytest.fixture
async def queue() -> FakeSubscription:
    return FakeSubscription()


def failed(key: str, delay_seconds: float = 60) -> Settlement:
    return Settlement(postponed=[Postponed(event=failed_event(key), delay_seconds=delay_seconds)])


# of the broker


async def test_nothing_is_acknowledged_that_is_not_stored(
    database: FakeDatabase, queue: FakeSubscription
) -> None:
    source = BrokerSource(queue, FakeFailures(database))
    queue.put(b"1")
    deliveries = await source.receive(10)
    database.available = False
    with pytest.raises(DatabaseUnavailable):
        await source.settle(deliveries, failed("a"))
    assert queue.acknowledged == []
    assert source.holds(deliveries)

    database.available = True
    await source.settle(deliveries, failed("a"))
    assert queue.acknowledged == deliveries
    assert await source.postponed(["a", "b"]) == {"a"}


async def test_the_database_is_not_asked_when_nothing_failed(
    database: FakeDatabase, queue: FakeSubscription
) -> None:
    source = BrokerSource(queue, FakeFailures(database))
    queue.put(b"1")
    deliveries = await source.receive(10)
    database.available = False
    await source.settle(deliveries, Settlement())
    assert await source.postponed([]) == set()
    assert queue.acknowledged == deliveries


async def test_an_acknowledgement_that_failed_is_not_repeated(
    database: FakeDatabase, queue: FakeSubscription
) -> None:
    source = BrokerSource(queue, FakeFailures(database))
    queue.put(b"1")
    deliveries = await source.receive(10)
    queue.lose_connection()
    with pytest.raises(BrokerUnavailable):
        await source.settle(deliveries, failed("a"))
    assert not source.holds(deliveries)

    again = await source.receive(10)
    assert source.holds(again)
    await source.settle(again, failed("a"))
    assert len(database.retries) == 1


# of the retries


async def test_due_retries_are_polled_for(database: FakeDatabase, virtual_time: VirtualTime) -> None:
    failures = FakeFailures(database)
    source = RetrySource(failures, poll_seconds=1)
    await failures.set_aside(failed("a", 60).postponed, [])
    deliveries = await source.receive(10)
    assert len(deliveries) == 1
    assert 60 <= virtual_time.seconds <= 61


async def test_a_settled_retry_is_gone_and_a_failed_one_waits_again(
    database: FakeDatabase, virtual_time: VirtualTime
) -> None:
    failures = FakeFailures(database)
    source = RetrySource(failures)
    await failures.set_aside([*failed("a", 0).postponed, *failed("b", 0).postponed], [])
    deliveries = await source.receive(10)

    await source.settle(deliveries, failed("b", 600))

    assert [retry.event.event_key for retry in database.retries.values()] == ["b"]
    (again,) = await source.receive(10)
    assert virtual_time.seconds >= 600
    assert source.holds([again])


async def test_a_retry_is_never_taken_for_one_that_waits(database: FakeDatabase) -> None:
    failures = FakeFailures(database)
    source = RetrySource(failures)
    await failures.set_aside(failed("a", 0).postponed, [])
    await source.receive(10)
    assert await source.postponed(["a"]) == set()


async def test_a_retry_whose_handler_died_comes_again_after_its_lease(
    database: FakeDatabase, virtual_time: VirtualTime
) -> None:
    failures = FakeFailures(database)
    source = RetrySource(failures, lease_seconds=120)
    await failures.set_aside(failed("a", 0).postponed, [])
    first = await source.receive(10)
    assert await source.receive(10) == first
    assert virtual_time.seconds >= 120


async def test_waiting_for_retries_may_be_cancelled(
    database: FakeDatabase, virtual_time: VirtualTime
) -> None:
    source = RetrySource(FakeFailures(database))
    task = asyncio.create_task(source.receive(10))
    await virtual_time.advance(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
