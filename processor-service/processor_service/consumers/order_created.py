"""The consumer of `order.created`."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from processor_service.application.ports import DecidedOrders, OrderToProcess, Policy, ProcessingState
from processor_service.application.process_orders import Processed, process_orders
from processor_service.application.rehearse import Unreadable
from processor_service.domain.decision import Postponement
from processor_service.domain.order import Item, Order, OrderId
from service_kit.consumer import Handled, Outcome, Received, RetryLater
from service_kit.errors import MalformedEvent
from service_kit.event_schema import EventText, EventVersion, decode_event, event_decoder
from service_kit.forecast import Forecast, Foreseen
from service_kit.observability.subjects import in_traces

ORDER_CREATED = "order.created"


class CreatedItem(msgspec.Struct, frozen=True):
    sku: str
    quantity: int | None = None
    price: Decimal | None = None


class OrderCreated(msgspec.Struct, frozen=True):
    """The event as it is read: foreign writers leave out the version, and send SKUs alone."""

    order_id: EventText
    items: list[str | CreatedItem]
    customer_id: str | None = None
    amount: Decimal | None = None
    version: EventVersion = 1

    @property
    def key(self) -> str:
        return f"{ORDER_CREATED}:{self.order_id}:{self.version}"

    @property
    def subject(self) -> str:
        return self.order_id

    def order(self) -> Order:
        return Order(
            order_id=OrderId(self.order_id),
            customer_id=self.customer_id,
            items=tuple(_item(item) for item in self.items),
            amount=self.amount,
            version=self.version,
        )


_decoder = event_decoder(OrderCreated)


def order_of(body: bytes) -> Order:
    """The order in an event that was kept. Raises Unreadable."""
    try:
        return decode_event(_decoder, body).order()
    except MalformedEvent as error:
        raise Unreadable(str(error)) from error


class OrderCreatedHandler:
    """Implements Handler: orders are decided and answered; `on_outcome` sees what became of each."""

    def __init__(self, policy: Policy, decided: DecidedOrders, on_outcome: Callable[[str], None]) -> None:
        self._policy = policy
        self._decided = decided
        self._on_outcome = on_outcome

    def decode(self, event_type: str, body: bytes) -> OrderCreated:
        return decode_event(_decoder, body)

    async def handle(self, events: Sequence[Received[OrderCreated]]) -> Sequence[Outcome]:
        orders = [_order_to_process(received) for received in events]
        with in_traces({item.order.order_id: item.traceparent for item in orders}):
            outcomes = await process_orders(orders, self._policy, self._decided)
        return [self._outcome(outcome) for outcome in outcomes]

    def _outcome(self, outcome: Processed | Postponement) -> Outcome:
        if isinstance(outcome, Processed):
            self._on_outcome(outcome.value)
            return Handled()
        self._on_outcome("postponed")
        return RetryLater(reason=outcome.reason, delay_seconds=outcome.delay_seconds, counts=outcome.counts)


async def foresee_created(events: Sequence[OrderCreated], *, decided: DecidedOrders) -> Sequence[Foreseen]:
    """What handling each event now would come to, by what is stored of its order."""
    stored = await decided.find({OrderId(event.order_id) for event in events})
    return [_foreseen(event, stored.get(OrderId(event.order_id))) for event in events]


def _foreseen(event: OrderCreated, state: ProcessingState | None) -> Foreseen:
    if state is None or state.version < event.version:
        return Foreseen(Forecast.WILL_RUN, "the order has not been decided")
    if state.version == event.version:
        return Foreseen(Forecast.ALREADY_PROCESSED, "it was decided; the decision is sent again")
    return Foreseen(Forecast.ALREADY_PROCESSED, f"version {state.version} was decided already")


def _order_to_process(received: Received[OrderCreated]) -> OrderToProcess:
    return OrderToProcess(
        key=received.event.key,
        order=received.event.order(),
        attempt=received.attempt,
        last_error=received.last_error,
        traceparent=received.traceparent,
        event=received.body,
        received_at=received.received_at,
    )


def _item(item: str | CreatedItem) -> Item:
    if isinstance(item, str):
        return Item(sku=item)
    return Item(sku=item.sku, quantity=item.quantity, price=item.price)
