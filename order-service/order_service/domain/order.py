"""An order: what was ordered, and how far it has come."""

from collections.abc import Sequence
from dataclasses import field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NewType
from unicodedata import category

from order_service.domain.errors import InvalidOrder, Violation
from order_service.domain.money import canonical, price_problem
from order_service.domain.value import value

OrderId = NewType("OrderId", str)

TEXT_LENGTH_MAX = 255
QUANTITY_MAX = 1_000_000
ITEMS_MAX = 1_000


class Status(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@value
class Item:
    """`price` is of one piece."""

    sku: str
    quantity: int
    price: Decimal


@value
class OrderSummary:
    """An order without its items.

    `version` grows by one with each change of state; `fail_reason` is given exactly when failed, and
    `cancel_reason` only when cancelled. The times are the database's, None before it is stored; they say
    nothing about whether two orders are equal.
    """

    order_id: OrderId
    customer_id: str
    total_amount: Decimal
    status: Status = Status.PENDING
    version: int = 1
    fail_reason: str | None = None
    cancel_reason: str | None = None
    created_at: datetime | None = field(default=None, compare=False)
    updated_at: datetime | None = field(default=None, compare=False)


@value
class Order(OrderSummary):
    """An order with everything that was ordered."""

    items: tuple[Item, ...]

    def same_content(self, other: "Order") -> bool:
        """Whether both ask for the same things for the same customer, whatever became of them since."""
        return self.customer_id == other.customer_id and self.items == other.items

    def stored_at(self, moment: datetime) -> "Order":
        """This new order, once it is stored. Spelled out: `replace` takes four times as long."""
        return Order(
            order_id=self.order_id,
            customer_id=self.customer_id,
            items=self.items,
            total_amount=self.total_amount,
            created_at=moment,
            updated_at=moment,
        )


def new_order(order_id: str, customer_id: str, items: Sequence[Item]) -> Order:
    """A pending order of these contents, amounts in canonical spelling.

    Raises InvalidOrder with all violations; of too many items only the allowed number is looked at.
    """
    violations = [
        *text_violations(("order_id",), order_id),
        *text_violations(("customer_id",), customer_id),
    ]
    if "/" in order_id:
        violations.append(Violation(("order_id",), "must not contain '/'"))
    if not 1 <= len(items) <= ITEMS_MAX:
        violations.append(Violation(("items",), f"must have 1 to {ITEMS_MAX} items"))
    for index, item in enumerate(items[:ITEMS_MAX]):
        violations += _item_violations(index, item)
    if violations:
        raise InvalidOrder(violations)
    kept = tuple(Item(sku=item.sku, quantity=item.quantity, price=canonical(item.price)) for item in items)
    total = sum((item.quantity * item.price for item in kept), Decimal())
    return Order(
        order_id=OrderId(order_id), customer_id=customer_id, items=kept, total_amount=canonical(total)
    )


def _item_violations(index: int, item: Item) -> list[Violation]:
    violations = text_violations(("items", index, "sku"), item.sku)
    if not 1 <= item.quantity <= QUANTITY_MAX:
        violations.append(Violation(("items", index, "quantity"), f"must be from 1 to {QUANTITY_MAX}"))
    if problem := price_problem(item.price):
        violations.append(Violation(("items", index, "price"), problem))
    return violations


def text_violations(location: tuple[str | int, ...], text: str) -> list[Violation]:
    """What keeps `text` from being an id, or a line of words; nothing when it can be one."""
    if not 1 <= len(text) <= TEXT_LENGTH_MAX:
        return [Violation(location, f"must have 1 to {TEXT_LENGTH_MAX} characters")]
    if not text.isprintable() and any(category(character) == "Cc" for character in text):
        return [Violation(location, "must not contain control characters")]
    return []
