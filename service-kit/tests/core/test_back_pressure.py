import asyncio

from service_kit.back_pressure import BackPressure
from service_kit.testing.virtual_time import VirtualTime


async def test_nobody_waits_for_a_relay_that_keeps_up(virtual_time: VirtualTime) -> None:
    back_pressure = BackPressure()
    back_pressure.turn_ended(behind=False)
    await back_pressure.admission()
    assert virtual_time.seconds == 0


async def test_each_turn_of_a_relay_that_is_behind_lets_one_commit_go(virtual_time: VirtualTime) -> None:
    back_pressure = BackPressure()
    back_pressure.turn_ended(behind=True)
    commits = [asyncio.create_task(back_pressure.admission()) for _ in range(3)]
    for gone in range(3):
        await virtual_time.advance(1)
        assert sum(commit.done() for commit in commits) == gone
        back_pressure.turn_ended(behind=True)
    await asyncio.gather(*commits)


async def test_a_relay_that_has_caught_up_lets_all_go(virtual_time: VirtualTime) -> None:
    back_pressure = BackPressure()
    back_pressure.turn_ended(behind=True)
    commits = [asyncio.create_task(back_pressure.admission()) for _ in range(3)]
    await virtual_time.advance(1)
    back_pressure.turn_ended(behind=False)
    await asyncio.gather(*commits)
    assert virtual_time.seconds == 1


async def test_a_relay_that_gets_nothing_done_holds_nobody_up(virtual_time: VirtualTime) -> None:
    back_pressure = BackPressure(patience_seconds=3)
    back_pressure.turn_ended(behind=True)
    await asyncio.gather(*(back_pressure.admission() for _ in range(3)))
    assert virtual_time.seconds == 3
    await back_pressure.admission()
    assert virtual_time.seconds == 3


async def test_who_was_cancelled_takes_nobodys_turn(virtual_time: VirtualTime) -> None:
    back_pressure = BackPressure()
    back_pressure.turn_ended(behind=True)
    first, second = (asyncio.create_task(back_pressure.admission()) for _ in range(2))
    await virtual_time.advance(1)
    first.cancel()
    await asyncio.wait({first})
    back_pressure.turn_ended(behind=True)
    await second
    assert virtual_time.seconds == 1
