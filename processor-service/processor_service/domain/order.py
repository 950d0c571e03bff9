"""An order, as far as deciding about it needs."""

from dataclasses import dataclass
from decimal import Decimal
from typing import NewType

OrderId = NewType("OrderId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """`quantity` and `price` (of one piece) are None when the writer sent the SKU alone."""

    sku: str
    quantity: int | None = None
    price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    order_id: OrderId
    customer_id: str | None
    items: tuple[Item, ...]
    amount: Decimal | None
    version: int
