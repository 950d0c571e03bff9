"""Consuming can be paused: nothing is taken, and what was taken in advance is handed back."""

import asyncio
from collections.abc import Callable, Collection, Sequence

from service_kit.broker import Subscription
from service_kit.message import Delivery
from service_kit.sources import Settlement, Source


class Consuming:
    """Whether this process may consume now. `known` False: not before somebody has called `resume`."""

    def __init__(self, *, known: bool = True) -> None:
        self._running = asyncio.Event()
        if known:
            self._running.set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def pause(self) -> None:
        """Safe twice, as `resume` is."""
        self._running.clear()
        for told in self._listeners:
            told()

    def resume(self) -> None:
        self._running.set()

    async def resumed(self) -> None:
        await self._running.wait()

    def on_pause(self, told: Callable[[], None]) -> None:
        self._listeners.append(told)


class PausableSource:
    """A source that gives nothing while consuming is paused; the batch in hand is settled all the same.

    The `subscription` behind it is paused too: what it has received in advance goes back to the queue, so
    that another instance, or the broker's consumer timeout, finds nothing with us however long it takes.
    """

    def __init__(
        self, source: Source, consuming: Consuming, subscription: Subscription | None = None
    ) -> None:
        self._source = source
        self._consuming = consuming
        self._subscription = subscription
        self._waiting: asyncio.Timeout | None = None
        consuming.on_pause(self._interrupt)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        while True:
            if self._consuming.paused:
                await self._rest()
            try:
                # A timeout that only a pause lets expire: it costs nothing for each batch.
                async with asyncio.timeout(None) as self._waiting:
                    return await self._source.receive(limit)
            except TimeoutError:
                if self._waiting is None or not self._waiting.expired():
                    raise
            finally:
                self._waiting = None

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        return await self._source.postponed(event_keys)

    async def settle(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        await self._source.settle(deliveries, settlement)

    def holds(self, deliveries: Sequence[Delivery]) -> bool:
        return self._source.holds(deliveries)

    def _interrupt(self) -> None:
        if self._waiting is not None and self._waiting.when() is None:
            self._waiting.reschedule(0.0)

    async def _rest(self) -> None:
        if self._subscription is not None:
            self._subscription.pause()
        await self._consuming.resumed()
        if self._subscription is not None:
            self._subscription.resume()
