"""Starting, looping and draining."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, ClassVar, TypeVar

import structlog

from service_kit.errors import Unavailable
from service_kit.retry import OUTAGE_BACKOFF, Backoff, pauses

T = TypeVar("T")
log = structlog.stdlib.get_logger()


def _nobody_counts(_: Exception) -> None: ...


class BackgroundService(ABC):
    """A loop of turns. `stop` is safe before the start and twice, and lets the turn in hand finish.

    An outage (`Unavailable`) pauses the loop with backoff and jitter until the dependency answers; any other
    error is logged and pauses it in the same way, since a loop that ends would stop the flow of orders.
    `on_failure` is called for each turn that failed, also for those that are not logged.
    """

    name: ClassVar[str]
    outage_backoff: Backoff = OUTAGE_BACKOFF

    def __init__(self, random: Random | None = None) -> None:
        self._stopping = False
        self._waits: dict[asyncio.Timeout, float] = {}  # with how long each may linger
        self._random = random or Random()
        self.on_failure: Callable[[Exception], None] = _nobody_counts

    @abstractmethod
    async def run_once(self) -> None:
        """One turn: wait for work (through `until_stopped`), then do all of it."""

    async def run(self) -> None:
        delays = pauses(self.outage_backoff, self._random)
        failing: type[Exception] | None = None
        while not self.stopping:
            try:
                await self.run_once()
            except Exception as error:
                self.on_failure(error)
                if type(error) is not failing:
                    self._report(error)
                failing = type(error)
                await self.pause(next(delays))
            else:
                if failing:
                    log.info("background_service_recovered", background_service=self.name)
                    delays, failing = pauses(self.outage_backoff, self._random), None

    def stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for wait, linger_seconds in self._waits.items():
            wait.reschedule(asyncio.get_running_loop().time() + linger_seconds)

    @property
    def stopping(self) -> bool:
        return self._stopping

    async def pause(self, seconds: float) -> None:
        """Sleep, or less when stopped."""
        await self.until_stopped(asyncio.sleep(seconds))

    async def until_stopped(
        self, waiting: Coroutine[Any, Any, T], *, linger_seconds: float = 0.0
    ) -> T | None:
        """The result of `waiting`, or None (and `waiting` cancelled) when stopped before.

        Once stopped it may still take `linger_seconds`. Only waits that lose nothing by cancellation may be
        handed in.
        """
        if self.stopping and not linger_seconds:
            waiting.close()
            return None
        try:
            async with asyncio.timeout(linger_seconds if self.stopping else None) as wait:
                self._waits[wait] = linger_seconds
                return await waiting
        except TimeoutError:
            if wait.expired():
                return None
            raise
        finally:
            self._waits.pop(wait, None)

    def _report(self, error: Exception) -> None:
        if isinstance(error, Unavailable):
            log.warning("background_service_waiting", background_service=self.name, reason=str(error))
        else:
            log.error("background_service_failed", background_service=self.name, exc_info=error)


class Wakeup:
    """A coalesced signal within one process: any number of `notify` before a `wait` count as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def wait(self, timeout_seconds: float) -> None:
        """Return at the next (or an earlier, unseen) `notify`, or after `timeout_seconds`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()
