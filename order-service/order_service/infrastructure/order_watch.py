"""The watch over orders whose end somebody waits for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import ClassVar

from order_service.application.ports import OrderReader
from order_service.domain.order import OrderId, OrderSummary
from service_kit.lifecycle import BackgroundService, Wakeup

_ORDERS_AT_A_TIME = 2_000

End = asyncio.Future[OrderSummary | None]


class OrderWatch(BackgroundService):
    """Implements FinalOrders. One statement serves all who wait, and none runs while nobody does.

    Orders that this process finished are looked up at once, those that others did within `poll_seconds`.
    """

    name: ClassVar[str] = "order_watch"

    def __init__(
        self, reader: OrderReader, *, poll_seconds: float = 0.25, random: Random | None = None
    ) -> None:
        super().__init__(random)
        self._reader = reader
        self._poll_seconds = poll_seconds
        self._expected: dict[OrderId, set[End]] = {}
        self._finished: set[OrderId] = set()
        self._somebody_waits = asyncio.Event()
        self._wakeup = Wakeup()
        self._next_poll_at = 0.0
        self._ended = False

    @contextmanager
    def expecting(self, order_id: OrderId) -> Iterator[End]:
        end: End = asyncio.get_running_loop().create_future()
        if self._ended:
            end.set_result(None)
        self._expected.setdefault(order_id, set()).add(end)
        self._somebody_waits.set()
        try:
            yield end
        finally:
            ends = self._expected[order_id]
            ends.discard(end)
            if not ends:
                del self._expected[order_id]

    def finished(self, order_id: OrderId) -> None:
        """The order became final in this process: its change is committed."""
        if order_id in self._expected:
            self._finished.add(order_id)
            self._wakeup.notify()

    def end(self) -> None:
        """Let nobody wait any more."""
        self._ended = True
        for ends in self._expected.values():
            for end in ends:
                _tell(end, None)

    async def run_once(self) -> None:
        if not self._expected:
            self._somebody_waits.clear()
            await self.until_stopped(self._somebody_waits.wait())
            self._poll_later()
        clock = asyncio.get_running_loop().time
        await self.until_stopped(self._wakeup.wait(max(0.0, self._next_poll_at - clock())))
        finished, self._finished = self._finished, set()
        if clock() >= self._next_poll_at:
            finished = set(self._expected)
            self._poll_later()
        await self._look_up([order_id for order_id in finished if order_id in self._expected])

    def _poll_later(self) -> None:
        self._next_poll_at = asyncio.get_running_loop().time() + self._poll_seconds

    async def _look_up(self, order_ids: list[OrderId]) -> None:
        for start in range(0, len(order_ids), _ORDERS_AT_A_TIME):
            for order in await self._reader.final(order_ids[start : start + _ORDERS_AT_A_TIME]):
                for end in self._expected.get(order.order_id, ()):
                    _tell(end, order)


def _tell(end: End, order: OrderSummary | None) -> None:
    if not end.done():
        end.set_result(order)
