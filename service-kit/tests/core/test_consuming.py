import asyncio
from collections.abc import Sequence

import pytest

from service_kit.consuming import Consuming, PausableSource
from service_kit.failures import Postponed
from service_kit.message import Delivery
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


@pytest.fixture
async def consuming() -> Consuming:
    return Consuming()


@pytest.fixture
async def source(database: FakeDatabase, queue: FakeSubscription, consuming: Consuming) -> PausableSource:
    return PausableSource(BrokerSource(queue, FakeFailures(database)), consuming, queue)


async def test_without_a_pause_it_is_the_source_itself(
    source: PausableSource, queue: FakeSubscription
) -> None:
    queue.put(b"1")
    deliveries = await source.receive(10)
    assert source.holds(deliveries)
    await source.settle(deliveries, Settlement())
    assert queue.acknowledged == deliveries


async def test_nothing_is_received_during_a_pause(
    source: PausableSource, queue: FakeSubscription, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    consuming.pause()
    queue.put(b"1")
    receiving = asyncio.ensure_future(source.receive(10))
    await virtual_time.advance(86_400)
    assert not receiving.done()

    consuming.resume()
    assert [delivery.body for delivery in await receiving] == [b"1"]


async def test_whoever_waits_already_gets_nothing_any_more(
    source: PausableSource, queue: FakeSubscription, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    receiving = asyncio.ensure_future(source.receive(10))
    await virtual_time.settle()
    consuming.pause()
    await virtual_time.settle()
    queue.put(b"1")
    await virtual_time.advance(86_400)
    assert not receiving.done()

    consuming.resume()
    assert [delivery.body for delivery in await receiving] == [b"1"]


async def test_the_batch_in_hand_is_settled_before_the_rest_is_handed_back(
    source: PausableSource, queue: FakeSubscription, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    queue.put(b"1")
    queue.put(b"2")
    batch = await source.receive(1)
    consuming.pause()
    await source.settle(batch, Settlement())
    assert [delivery.body for delivery in queue.acknowledged] == [b"1"]

    receiving = asyncio.ensure_future(source.receive(10))
    await virtual_time.settle()
    assert not receiving.done()
    consuming.resume()
    assert [delivery.body for delivery in await receiving] == [b"2"]


async def test_pauses_may_follow_each_other_at_any_moment(
    source: PausableSource, queue: FakeSubscription, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    receiving = asyncio.ensure_future(source.receive(10))
    for _ in range(3):
        consuming.pause()
        consuming.pause()
        consuming.resume()
        await virtual_time.settle()
    consuming.pause()
    await virtual_time.settle()
    assert not receiving.done()
    consuming.resume()
    queue.put(b"1")
    assert len(await receiving) == 1


async def test_waiting_can_be_cancelled_during_a_pause_too(
    source: PausableSource, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    for pausing in (consuming.resume, consuming.pause):
        pausing()
        receiving = asyncio.ensure_future(source.receive(10))
        await virtual_time.settle()
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving


async def test_a_timeout_of_the_source_itself_is_not_taken_for_a_pause(consuming: Consuming) -> None:
    class Late(RetrySource):
        async def receive(self, limit: int) -> Sequence[Delivery]:
            raise TimeoutError("the source's own")

    source = PausableSource(Late(FakeFailures(FakeDatabase(loop_clock))), consuming)
    with pytest.raises(TimeoutError, match="the source's own"):
        await source.receive(1)


async def test_retries_wait_too(
    database: FakeDatabase, consuming: Consuming, virtual_time: VirtualTime
) -> None:
    failures = FakeFailures(database)
    source = PausableSource(RetrySource(failures), consuming)
    receiving = asyncio.ensure_future(source.receive(10))
    await virtual_time.settle()
    consuming.pause()
    await failures.set_aside([Postponed(event=failed_event("a"), delay_seconds=1)], [])
    await virtual_time.advance(3600)
    assert not receiving.done()
    consuming.resume()
    assert len(await receiving) == 1


async def test_before_the_switch_is_known_nothing_is_received(
    database: FakeDatabase, queue: FakeSubscription, virtual_time: VirtualTime
) -> None:
    consuming = Consuming(known=False)
    source = PausableSource(BrokerSource(queue, FakeFailures(database)), consuming, queue)
    queue.put(b"1")
    receiving = asyncio.ensure_future(source.receive(10))
    await virtual_time.advance(60)
    assert consuming.paused and not receiving.done()
    consuming.resume()
    assert len(await receiving) == 1
