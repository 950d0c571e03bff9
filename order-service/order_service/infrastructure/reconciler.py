"""The reconciler finds orders that have been pending too long and tells of them again."""

from collections.abc import Callable
from random import Random
from typing import ClassVar

import structlog

from order_service.application.ports import UnitOfWork
from order_service.application.reemit_pending import reemit_pending
from service_kit.lifecycle import BackgroundService
from service_kit.observability.trace_context import continued_trace

log = structlog.stdlib.get_logger()


def _nobody_counts(_: int) -> None: ...


class Reconciler(BackgroundService):
    """Looks every `interval_seconds` for orders pending for `after_seconds`, `batch_orders` a turn.

    The rate is bounded on purpose: after an outage most overdue orders are only waiting in a queue.
    `on_reemitted` is told how many orders a turn has found.
    """

    name: ClassVar[str] = "reconciler"

    def __init__(
        self,
        uow: UnitOfWork,
        *,
        after_seconds: float,
        interval_seconds: float | None = None,
        batch_orders: int = 500,
        random: Random | None = None,
        on_reemitted: Callable[[int], None] = _nobody_counts,
    ) -> None:
        super().__init__(random)
        self._uow = uow
        self._after_seconds = after_seconds
        self._interval_seconds = (
            min(10.0, after_seconds / 4) if interval_seconds is None else interval_seconds
        )
        self._batch_orders = batch_orders
        self._on_reemitted = on_reemitted

    async def run_once(self) -> None:
        count = await reemit_pending(
            self._uow,
            after_seconds=self._after_seconds,
            limit=self._batch_orders,
            new_trace=lambda: continued_trace(None, self._random),
        )
        if count:
            self._on_reemitted(count)
            log.warning("pending_orders_reemitted", orders=count)
        await self.pause(self._interval_seconds)
