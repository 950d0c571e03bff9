import asyncio
import time

import pytest

from service_kit.testing.virtual_time import VirtualTime, VirtualTimeLoop


async def test_a_day_passes_at_once_and_in_order(virtual_time: VirtualTime) -> None:
    seen: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, virtual_time.seconds))

    started_at = time.monotonic()
    await asyncio.gather(wait("day", 86_400), wait("hour", 3_600), wait("second", 1))

    assert seen == [("second", 1), ("hour", 3_600), ("day", 86_400)]
    assert time.monotonic() - started_at < 3_600


async def test_a_deadline_is_reached_in_virtual_time(virtual_time: VirtualTime) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await asyncio.Event().wait()
    assert virtual_time.seconds == 600


def test_a_deadlock_is_an_error_and_no_hanging_test() -> None:
    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    loop = VirtualTimeLoop()
    task = loop.create_task(wait_for_nothing())
    with pytest.raises(RuntimeError, match="nothing can ever happen"):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.wait({task}))
    loop.close()


async def test_settling_lets_everything_happen_that_needs_no_time(virtual_time: VirtualTime) -> None:
    seen: list[int] = []

    async def many_steps() -> None:
        for number in range(100):
            await asyncio.sleep(0)
            seen.append(number)

    task = asyncio.create_task(many_steps())
    await virtual_time.settle()

    assert task.done()
    assert len(seen) == 100
