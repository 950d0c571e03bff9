"""The bytes of the events, and of the items as they are stored."""

from collections.abc import Sequence

import msgspec

from order_service.application.ports import CreateOrder
from order_service.domain.order import Item, Order, OrderSummary
from service_kit.outbox import OutboxEvent

ORDER_CREATED = "order.created"
ORDER_CANCELLED = "order.cancelled"

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode_items(items: Sequence[Item]) -> bytes:
    return _encoder.encode(
        [{"sku": item.sku, "quantity": item.quantity, "price": item.price} for item in items]
    )


def order_created(command: CreateOrder, items: bytes | None = None) -> OutboxEvent:
    """The event of an order; `items` are its encoded items if the caller has them already."""
    return OutboxEvent(
        event_type=ORDER_CREATED,
        payload=_encoder.encode(_body(command.order, items or encode_items(command.order.items))),
        traceparent=command.traceparent,
    )


def order_cancelled(order: OrderSummary, traceparent: str) -> OutboxEvent:
    """The event of a cancelled order; `version` is the one that it has since."""
    body = {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "reason": order.cancel_reason,
        "version": order.version,
    }
    return OutboxEvent(event_type=ORDER_CANCELLED, payload=_encoder.encode(body), traceparent=traceparent)


def _body(order: Order, items: bytes) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "items": msgspec.Raw(items),
        "amount": order.total_amount,
        "version": order.version,
    }
