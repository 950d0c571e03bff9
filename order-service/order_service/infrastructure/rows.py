"""From rows to orders."""

from decimal import Decimal
from typing import Any

import msgspec

from order_service.domain.money import canonical
from order_service.domain.order import Item, Order, Status
from service_kit.postgres.database import Record

COLUMNS = "order_id, customer_id, items::text AS items, amount, status, version, fail_reason"


class _Item(msgspec.Struct):
    sku: str
    quantity: int
    price: Any
    """Decimal or int: an untyped number, so that the decoder's `float_hook` keeps it exact."""


_items = msgspec.json.Decoder(list[_Item], float_hook=Decimal)


def to_order(record: Record) -> Order:
    items = _items.decode(record["items"])
    return Order(
        order_id=record["order_id"],
        customer_id=record["customer_id"],
        items=tuple(Item(sku=item.sku, quantity=item.quantity, price=Decimal(item.price)) for item in items),
        total_amount=canonical(record["amount"]),  # 90000 comes as 9E+4
        status=Status(record["status"]),
        version=record["version"],
        fail_reason=record["fail_reason"],
    )
