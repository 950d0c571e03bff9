"""An order: what was ordered, and how far it has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NewType
from unicodedata import category

from order_service.domain.errors import InvalidOrder, Violation
from order_service.domain.money import canonical, price_problem

OrderId = NewType("OrderId", str)

TEXT_LENGTH_MAX = 255
QUANTITY_MAX = 1_000_000
ITEMS_MAX = 1_000


class Status(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """`price` is of one piece."""

    sku: str
    quantity: int
    price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`version` grows by one with each change of state; `fail_reason` is given exactly when failed."""

    order_id: OrderId
    customer_id: str
    items: tuple[Item, ...]
    total_amount: Decimal
    status: Status = Status.PENDING
    version: int = 1
    fail_reason: str | None = None

    def same_content(self, other: "Order") -> bool:
        """Whether both ask for the same things for the same customer, whatever became of them since."""
        return self.customer_id == other.customer_id and self.items == other.items


def new_order(order_id: str, customer_id: str, items: Sequence[Item]) -> Order:
    """A pending order of these contents, amounts in canonical spelling.

    Raises InvalidOrder with all violations; of too many items only the allowed number is looked at.
    """
    violations = [
        *_text_violations(("order_id",), order_id),
        *_text_violations(("customer_id",), customer_id),
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
    violations = _text_violations(("items", index, "sku"), item.sku)
    if not 1 <= item.quantity <= QUANTITY_MAX:
        violations.append(Violation(("items", index, "quantity"), f"must be from 1 to {QUANTITY_MAX}"))
    if problem := price_problem(item.price):
        violations.append(Violation(("items", index, "price"), problem))
    return violations


def _text_violations(location: tuple[str | int, ...], text: str) -> list[Violation]:
    if not 1 <= len(text) <= TEXT_LENGTH_MAX:
        return [Violation(location, f"must have 1 to {TEXT_LENGTH_MAX} characters")]
    if not text.isprintable() and any(category(character) == "Cc" for character in text):
        return [Violation(location, "must not contain control characters")]
    return []
