import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from service_kit.errors import DatabaseUnavailable
from service_kit.group_commit import GroupCommit, Overloaded
from service_kit.testing.virtual_time import VirtualTime


class Commits:
    """What is committed, a second each; `fail` raises for some batches."""

    def __init__(self, fail: Callable[[Sequence[int]], None] = lambda _: None) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.running_most = 0
        self._fail = fail

    async def __call__(self, items: Sequence[int]) -> Sequence[str]:
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            await asyncio.sleep(1)
            self._fail(items)
            self.batches.append([*items])
            return [f"committed {item}" for item in items]
        finally:
            self.running -= 1


async def test_a_single_item_is_committed_at_once(virtual_time: VirtualTime) -> None:
    commits = Commits()
    assert await GroupCommit(commits).submit(1) == "committed 1"
    assert commits.batches == [[1]]
    assert virtual_time.seconds == 1


async def test_each_caller_gets_its_own_result() -> None:
    group = GroupCommit(Commits(), batch_max=7)
    results = await asyncio.gather(*(group.submit(number) for number in range(50)))
    assert results == [f"committed {number}" for number in range(50)]


async def test_items_gather_while_a_flush_runs(virtual_time: VirtualTime) -> None:
    commits = Commits()
    group = GroupCommit(commits, flushes_max=1)
    first = asyncio.create_task(group.submit(0))
    await virtual_time.advance(0.5)
    others = [asyncio.create_task(group.submit(number)) for number in range(1, 6)]
    await asyncio.gather(first, *others)
    assert commits.batches == [[0], [1, 2, 3, 4, 5]]
    assert virtual_time.seconds == 2


async def test_no_batch_is_larger_than_it_may_be() -> None:
    commits = Commits()
    group = GroupCommit(commits, batch_max=3, flushes_max=1)
    await asyncio.gather(*(group.submit(number) for number in range(8)))
    assert commits.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize("flushes_max", [1, 2, 4])
async def test_no_more_flushes_run_at_a_time_than_may(virtual_time: VirtualTime, flushes_max: int) -> None:
    commits = Commits()
    group = GroupCommit(commits, batch_max=2, flushes_max=flushes_max)
    await asyncio.gather(*(group.submit(number) for number in range(16)))
    assert commits.running_most == flushes_max
    assert virtual_time.seconds == 8 / flushes_max


async def test_who_submits_again_at_once_is_not_forgotten() -> None:
    group = GroupCommit(Commits(), flushes_max=1)
    assert [await group.submit(number) for number in range(5)] == [f"committed {n}" for n in range(5)]


async def test_who_submits_again_while_all_flushes_end_is_not_forgotten() -> None:
    group = GroupCommit(Commits(), flushes_max=2, batch_max=1)

    async def client(*numbers: int) -> list[str]:
        return [await group.submit(number) for number in numbers]

    several, _ = await asyncio.gather(client(1, 2, 3), client(10))
    assert several == ["committed 1", "committed 2", "committed 3"]


async def test_what_may_not_wait_is_refused_and_nothing_else(virtual_time: VirtualTime) -> None:
    commits = Commits()
    group = GroupCommit(commits, batch_max=1, flushes_max=1, waiting_max=2)
    accepted = [asyncio.create_task(group.submit(0))]
    await virtual_time.settle()
    accepted += [asyncio.create_task(group.submit(number)) for number in (1, 2)]
    await virtual_time.settle()
    with pytest.raises(Overloaded, match="nothing was done"):
        await group.submit(3)
    await asyncio.gather(*accepted)
    assert commits.batches == [[0], [1], [2]]
    assert await group.submit(4) == "committed 4"


async def test_a_failing_item_fails_alone() -> None:
    def fail(items: Sequence[int]) -> None:
        if 2 in items:
            raise ValueError("two is odd")

    group = GroupCommit(Commits(fail))
    results = await asyncio.gather(*(group.submit(number) for number in range(4)), return_exceptions=True)
    assert results[:2] == ["committed 0", "committed 1"]
    assert repr(results[2]) == "ValueError('two is odd')"
    assert results[3] == "committed 3"


async def test_an_outage_fails_its_batch_at_once_and_no_later_one(virtual_time: VirtualTime) -> None:
    outages = [DatabaseUnavailable("database: gone")]
    attempts: list[Sequence[int]] = []

    def fail(items: Sequence[int]) -> None:
        attempts.append(items)
        if outages:
            raise outages.pop()

    group = GroupCommit(Commits(fail))
    results = await asyncio.gather(*(group.submit(number) for number in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    assert len(attempts) == 1
    assert await group.submit(3) == "committed 3"


async def test_a_cancelled_caller_takes_nothing_back(virtual_time: VirtualTime) -> None:
    commits = Commits()
    group = GroupCommit(commits, flushes_max=1)
    flushing = asyncio.create_task(group.submit(0))
    await virtual_time.settle()
    waiting = asyncio.create_task(group.submit(1))
    neighbour = asyncio.create_task(group.submit(2))
    await virtual_time.settle()

    flushing.cancel()
    waiting.cancel()

    assert await neighbour == "committed 2"
    assert flushing.cancelled() and waiting.cancelled()
    assert commits.batches == [[0], [1, 2]]


async def test_a_cancelled_caller_of_a_failing_batch_is_no_trouble(virtual_time: VirtualTime) -> None:
    def fail(_: Sequence[int]) -> None:
        raise DatabaseUnavailable

    group = GroupCommit(Commits(fail))
    task = asyncio.create_task(group.submit(0))
    neighbour = asyncio.create_task(group.submit(1))
    await virtual_time.settle()
    task.cancel()
    with pytest.raises(DatabaseUnavailable):
        await neighbour


async def test_a_commit_that_forgets_a_result_leaves_no_caller_waiting() -> None:
    async def forgetful(items: Sequence[int]) -> Sequence[str]:
        return []

    commit: Callable[[Sequence[int]], Awaitable[Sequence[str]]] = forgetful
    group = GroupCommit(commit)
    results = await asyncio.gather(*(group.submit(number) for number in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3


async def test_a_flush_waits_to_be_admitted_and_items_gather_meanwhile(virtual_time: VirtualTime) -> None:
    async def admission() -> None:
        await asyncio.sleep(5)

    commits = Commits()
    group = GroupCommit(commits, flushes_max=2, admission=admission)
    await asyncio.gather(*(group.submit(number) for number in range(4)))
    assert commits.batches == [[0, 1, 2, 3]]
    assert virtual_time.seconds == 6


async def test_many_at_once_wait_for_room_instead_of_being_refused(virtual_time: VirtualTime) -> None:
    commits = Commits()
    group = GroupCommit(commits, batch_max=2, flushes_max=1, waiting_max=2)
    results = await group.submit_all(range(9))
    assert results == [f"committed {number}" for number in range(9)]
    assert [item for batch in commits.batches for item in batch] == list(range(9))


async def test_several_who_wait_for_room_all_get_on(virtual_time: VirtualTime) -> None:
    group = GroupCommit(Commits(), batch_max=2, flushes_max=1, waiting_max=4)
    all_of_them = await asyncio.gather(*(group.submit_all(range(20)) for _ in range(3)))
    assert all_of_them == [[f"committed {number}" for number in range(20)]] * 3
    assert virtual_time.seconds == 30


async def test_of_many_at_once_each_has_its_own_failure() -> None:
    def fail(items: Sequence[int]) -> None:
        if 2 in items:
            raise ValueError("two is odd")
        if 9 in items:
            raise DatabaseUnavailable("database: gone")

    group = GroupCommit(Commits(fail), batch_max=5, flushes_max=1)
    results = await group.submit_all(range(10))
    assert [result for result in results if isinstance(result, str)] == [
        f"committed {number}" for number in (0, 1, 3, 4)
    ]
    assert [type(result) for result in results if not isinstance(result, str)] == [
        ValueError,
        *[DatabaseUnavailable] * 5,
    ]


async def test_nothing_at_once_is_nothing() -> None:
    assert await GroupCommit(Commits()).submit_all([]) == []
