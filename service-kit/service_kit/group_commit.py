"""Group commit: concurrent requests share one transaction, and an idle system waits for nothing."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service_kit.errors import ServiceKitError, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class Overloaded(ServiceKitError):
    """More requests wait than may wait; nothing was done."""


async def _at_once() -> None: ...


class GroupCommit(Generic[T, R]):
    """Gathers items while earlier ones are being committed.

    `commit` takes up to `batch_max` items in one transaction and returns a result for each, in order. At most
    `flushes_max` commits run at a time, each starting as soon as an earlier one returns and `admission` does,
    and at most `waiting_max` items wait for theirs.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        batch_max: int = 256,
        flushes_max: int = 2,
        waiting_max: int = 1024,
        admission: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._commit = commit
        self._batch_max = batch_max
        self._flushes_max = flushes_max
        self._waiting_max = waiting_max
        self._admission = admission
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._flushes: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Items that no commit has taken up yet."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether `submit` would raise Overloaded now."""
        return len(self._waiting) >= self._waiting_max

    async def submit(self, item: T) -> R:
        """The result of `item`, once it is committed.

        A caller that is cancelled takes nothing back: its item may be committed. Raises Overloaded, and
        whatever `commit` raised for a batch of this item alone, or Unavailable for the batch it was in.
        """
        if self.full:
            raise Overloaded
        return await self._put(item)

    async def submit_all(self, items: Sequence[T]) -> Sequence[R | BaseException]:
        """What `submit` returns or raises for each of `items`, but waits for room and refuses none."""
        results: list[asyncio.Future[R]] = []
        for item in items:
            while self.full:
                self._room.clear()
                await self._room.wait()
            results.append(self._put(item))
        return await asyncio.gather(*results, return_exceptions=True)

    def _put(self, item: T) -> "asyncio.Future[R]":
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if len(self._flushes) < self._flushes_max:
            self._flushes.add(asyncio.create_task(self._flush()))
        return result

    async def _flush(self) -> None:
        flush = asyncio.current_task()
        assert flush
        try:
            while self._waiting:
                await self._admission()
                size = min(self._batch_max, len(self._waiting))
                if size:  # another flush may have taken all meanwhile
                    batch = [self._waiting.popleft() for _ in range(size)]
                    self._room.set()
                    await self._commit_batch(batch)
        finally:
            # Not in a callback of the task: who submits before that runs would wait for nobody.
            self._flushes.discard(flush)

    async def _commit_batch(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._commit([item for item, _ in batch])
            settled = list(zip(batch, results, strict=True))
        except Exception as error:
            if isinstance(error, Unavailable) or len(batch) == 1:
                _fail(batch, error)
                return
            # Some item is at fault: halve until it stands alone, so that no neighbour fails with it.
            middle = len(batch) // 2
            await self._commit_batch(batch[:middle])
            await self._commit_batch(batch[middle:])
            return
        for (_, future), result in settled:
            if not future.done():
                future.set_result(result)


def _fail(batch: "Sequence[tuple[T, asyncio.Future[R]]]", error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
