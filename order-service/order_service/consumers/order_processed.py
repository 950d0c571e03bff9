"""The consumer of `order.processed`."""

from collections.abc import Callable, Sequence
from typing import Literal, assert_never

import msgspec

from order_service.application.apply_processed import Applied, apply_processed
from order_service.application.ports import Finished, OrderIntake, OrderResults, ProcessedOrder
from order_service.domain.order import Order, OrderId, Status
from service_kit.consumer import Handled, Outcome, Received, RetryLater
from service_kit.event_schema import EventText, EventVersion, StorableText, decode_event, event_decoder
from service_kit.forecast import Forecast, Foreseen

ORDER_PROCESSED = "order.processed"


class OrderProcessed(msgspec.Struct, frozen=True):
    """The event as it is read. `version` is the one that the order has after it."""

    order_id: EventText
    status: Literal["success", "failed"]
    version: EventVersion
    fail_reason: StorableText | None = None

    @property
    def key(self) -> str:
        return f"{ORDER_PROCESSED}:{self.order_id}:{self.version}"

    @property
    def subject(self) -> str:
        return self.order_id

    def result(self) -> ProcessedOrder:
        failed = self.status == "failed"
        return ProcessedOrder(
            key=self.key,
            order_id=OrderId(self.order_id),
            status=Status.FAILED if failed else Status.DONE,
            fail_reason=(self.fail_reason or "no reason given") if failed else None,
            version=self.version,
        )


_decoder = event_decoder(OrderProcessed)


class OrderProcessedHandler:
    """Implements Handler: results become the orders' final states; `on_finished` sees each committed one."""

    def __init__(self, orders: OrderResults, on_finished: Callable[[Finished], None]) -> None:
        self._orders = orders
        self._on_finished = on_finished

    def decode(self, event_type: str, body: bytes) -> OrderProcessed:
        return decode_event(_decoder, body)

    async def handle(self, events: Sequence[Received[OrderProcessed]]) -> Sequence[Outcome]:
        applied = await apply_processed([received.event.result() for received in events], self._orders)
        for order in applied.finished:
            self._on_finished(order)
        return [_outcome(outcome) for outcome in applied.outcomes]


async def foresee_processed(events: Sequence[OrderProcessed], *, orders: OrderIntake) -> Sequence[Foreseen]:
    """What handling each event now would come to, by what is stored of its order."""
    stored = await orders.find({OrderId(event.order_id) for event in events})
    return [_foreseen(event, stored.get(OrderId(event.order_id))) for event in events]


def _foreseen(event: OrderProcessed, order: Order | None) -> Foreseen:
    if order is None:
        return Foreseen(Forecast.WILL_FAIL_AGAIN, "there is no such order")
    if order.status is not Status.PENDING:
        return Foreseen(Forecast.ALREADY_PROCESSED, f"the order is {order.status}")
    if order.version >= event.version:
        return Foreseen(Forecast.ALREADY_PROCESSED, f"the order has version {order.version} already")
    return Foreseen(Forecast.WILL_RUN, "the order is pending")


def _outcome(applied: Applied) -> Outcome:
    match applied:
        case Applied.APPLIED | Applied.IGNORED:
            return Handled()
        case Applied.UNKNOWN_ORDER:
            return RetryLater(reason="there is no such order")
        case _:
            assert_never(applied)
