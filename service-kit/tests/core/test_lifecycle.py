import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest
from structlog.typing import EventDict

from service_kit.errors import BrokerUnavailable
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.retry import OUTAGE_BACKOFF
from service_kit.testing.virtual_time import VirtualTime


class Service(BackgroundService):
    name: ClassVar[str] = "stub"

    def __init__(self, turn: Callable[["Service"], Awaitable[None]]) -> None:
        super().__init__()
        self._turn = turn
        self.turns = 0

    async def run_once(self) -> None:
        self.turns += 1
        await self._turn(self)


async def wait_for_work(service: Service) -> None:
    await service.until_stopped(asyncio.sleep(10))


def raising(error: Exception, *, times: int) -> Callable[[Service], Awaitable[None]]:
    async def turn(service: Service) -> None:
        if service.turns <= times:
            raise error
        await wait_for_work(service)

    return turn


# stopping


async def test_a_service_stopped_before_its_start_takes_no_turn() -> None:
    service = Service(wait_for_work)
    service.stop()
    await service.run()
    assert service.turns == 0


async def test_stopping_twice_is_stopping_once(virtual_time: VirtualTime) -> None:
    service = Service(wait_for_work)
    task = asyncio.create_task(service.run())
    await virtual_time.advance(15)
    service.stop()
    service.stop()
    await task
    service.stop()
    assert service.turns == 2
    assert virtual_time.seconds == 15


async def test_the_turn_in_hand_is_finished(virtual_time: VirtualTime) -> None:
    done: list[float] = []

    async def work(service: Service) -> None:
        await asyncio.sleep(100)
        done.append(virtual_time.seconds)

    service = Service(work)
    task = asyncio.create_task(service.run())
    await virtual_time.advance(50)
    service.stop()
    await task
    assert done == [100]


async def test_a_pause_ends_when_stopped(virtual_time: VirtualTime) -> None:
    service = Service(raising(BrokerUnavailable(), times=10**6))
    task = asyncio.create_task(service.run())
    await virtual_time.advance(600)
    service.stop()
    await virtual_time.settle()
    assert task.done()


async def test_a_cancelled_service_ends_at_once_even_in_its_turn(virtual_time: VirtualTime) -> None:
    async def work(service: Service) -> None:
        await asyncio.sleep(100)

    for turn in (work, wait_for_work):
        task = asyncio.create_task(Service(turn).run())
        await virtual_time.settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_no_waiting_task_is_left_behind(virtual_time: VirtualTime) -> None:
    service = Service(wait_for_work)
    task = asyncio.create_task(service.run())
    await virtual_time.advance(5)
    task.cancel()
    await asyncio.wait({task})
    assert asyncio.all_tasks() == {asyncio.current_task()}


# failing


@pytest.mark.parametrize("error", [BrokerUnavailable(), ValueError("a defect")])
async def test_errors_pause_the_loop_and_never_end_it(virtual_time: VirtualTime, error: Exception) -> None:
    service = Service(raising(error, times=20))
    task = asyncio.create_task(service.run())
    await virtual_time.advance(600)
    assert not task.done()
    assert service.turns > 20
    service.stop()
    await task


async def test_a_loop_that_fails_does_not_spin(virtual_time: VirtualTime) -> None:
    service = Service(raising(BrokerUnavailable(), times=10**6))
    task = asyncio.create_task(service.run())
    await virtual_time.advance(600)
    assert 600 / (OUTAGE_BACKOFF.max_seconds * 1.2) < service.turns < 600 / 4 + 10
    service.stop()
    await task


async def test_an_outage_is_logged_once_and_its_end_too(
    virtual_time: VirtualTime, log_entries: list[EventDict]
) -> None:
    service = Service(raising(BrokerUnavailable(), times=5))
    task = asyncio.create_task(service.run())
    await virtual_time.advance(60)
    service.stop()
    await task
    assert [(entry["event"], entry["log_level"]) for entry in log_entries] == [
        ("background_service_waiting", "warning"),
        ("background_service_recovered", "info"),
    ]


async def test_a_defect_behind_an_outage_is_logged_too(
    virtual_time: VirtualTime, log_entries: list[EventDict]
) -> None:
    errors: list[Exception] = [BrokerUnavailable(), BrokerUnavailable(), ValueError("a defect")]

    async def turn(service: Service) -> None:
        if errors:
            raise errors.pop(0)
        await wait_for_work(service)

    service = Service(turn)
    task = asyncio.create_task(service.run())
    await virtual_time.advance(60)
    service.stop()
    await task
    assert [entry["event"] for entry in log_entries] == [
        "background_service_waiting",
        "background_service_failed",
        "background_service_recovered",
    ]


async def test_after_an_outage_the_pauses_begin_anew(virtual_time: VirtualTime) -> None:
    times: list[float] = []

    async def turn(service: Service) -> None:
        times.append(virtual_time.seconds)
        if service.turns != 11:
            raise BrokerUnavailable

    service = Service(turn)
    task = asyncio.create_task(service.run())
    await virtual_time.advance(60)
    service.stop()
    await task
    assert times[10] - times[9] >= 4
    assert times[12] - times[11] <= 0.12


# waiting


async def test_what_is_waited_for_is_returned(virtual_time: VirtualTime) -> None:
    async def answer() -> str:
        await asyncio.sleep(1)
        return "answer"

    service = Service(wait_for_work)
    assert await service.until_stopped(answer()) == "answer"


async def test_what_is_waited_for_may_raise() -> None:
    async def fail() -> None:
        raise BrokerUnavailable("gone")

    with pytest.raises(BrokerUnavailable, match="gone"):
        await Service(wait_for_work).until_stopped(fail())


async def test_what_is_waited_for_in_vain_is_cancelled(virtual_time: VirtualTime) -> None:
    cancelled: list[bool] = []

    async def wait() -> bool:
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    service = Service(wait_for_work)
    task = asyncio.create_task(service.until_stopped(wait()))
    await virtual_time.settle()
    service.stop()
    assert await task is None
    assert cancelled == [True]
    assert await service.until_stopped(wait()) is None


async def test_a_result_that_comes_with_the_stop_is_not_lost(virtual_time: VirtualTime) -> None:
    service = Service(wait_for_work)
    results: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(service.until_stopped(results.get()))
    await virtual_time.settle()
    results.put_nowait("delivery")
    service.stop()
    assert await task == "delivery"


# waking


async def test_a_notification_wakes_at_once(virtual_time: VirtualTime) -> None:
    wakeup = Wakeup()
    task = asyncio.create_task(wakeup.wait(60))
    await virtual_time.advance(5)
    wakeup.notify()
    await task
    assert virtual_time.seconds == 5


async def test_an_earlier_notification_is_seen_once(virtual_time: VirtualTime) -> None:
    wakeup = Wakeup()
    wakeup.notify()
    wakeup.notify()
    await wakeup.wait(60)
    assert virtual_time.seconds == 0
    await wakeup.wait(60)
    assert virtual_time.seconds == 60


async def test_without_a_notification_the_wait_ends_in_time(virtual_time: VirtualTime) -> None:
    await Wakeup().wait(60)
    assert virtual_time.seconds == 60


async def test_a_wait_may_be_cancelled(virtual_time: VirtualTime) -> None:
    task = asyncio.create_task(Wakeup().wait(60))
    await virtual_time.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
