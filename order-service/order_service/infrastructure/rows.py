"""From rows to orders."""

from decimal import Decimal
from typing import Any

import msgspec

from order_service.domain.money import canonical
from order_service.domain.order import Item, Order, OrderSummary, Status
from service_kit.postgres.database import Record

SUMMARY_COLUMNS = (
    "order_id, customer_id, amount, status, version, fail_reason, cancel_reason, created_at, updated_at"
)
COLUMNS = f"items::text AS items, {SUMMARY_COLUMNS}"


class _Item(msgspec.Struct):
    sku: str
    quantity: int
    price: Any
    """Decimal or int: an untyped number, so that the decoder's `float_hook` keeps it exact."""


_items = msgspec.json.Decoder(list[_Item], float_hook=Decimal)


def to_summary(record: Record) -> OrderSummary:
    return OrderSummary(**_of_summary(record))


def to_order(record: Record) -> Order:
    items = _items.decode(record["items"])
    return Order(
        items=tuple(Item(sku=item.sku, quantity=item.quantity, price=Decimal(item.price)) for item in items),
        **_of_summary(record),
    )


def _of_summary(record: Record) -> dict[str, Any]:
    return {
        "order_id": record["order_id"],
        "customer_id": record["customer_id"],
        "total_amount": canonical(record["amount"]),  # 90000 comes as 9E+4
        "status": Status(record["status"]),
        "version": record["version"],
        "fail_reason": record["fail_reason"],
        "cancel_reason": record["cancel_reason"],
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
    }
