"""What the API takes and gives. Fields that a newer service adds are passed over."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from order_processor_client.errors import Problem

Time = Annotated[datetime, Meta(tz=True)]


class Item(Struct, frozen=True, kw_only=True):
    """`price` is of one piece; sent and read as an exact decimal number."""

    sku: str
    quantity: int
    price: Decimal


class NewOrder(Struct, frozen=True, kw_only=True):
    order_id: str
    customer_id: str
    items: Sequence[Item]


class Order(Struct, frozen=True, kw_only=True):
    """`version` grows by one with each change of `status`; an order that is no longer pending is final.

    `items` are there only where they were asked for.
    """

    order_id: str
    customer_id: str
    status: str
    total_amount: Decimal
    version: int
    fail_reason: str | None = None
    cancel_reason: str | None = None
    created_at: Time | None = None
    updated_at: Time | None = None
    items: list[Item] | UnsetType = UNSET

    @property
    def final(self) -> bool:
        return self.status != "pending"


class CreatedOrder(Struct, frozen=True, kw_only=True):
    """`replayed`: the same order was there already; it is shown as it stands now."""

    order: Order
    replayed: bool


class OrderPage(Struct, frozen=True, kw_only=True):
    data: list[Order]
    has_more: bool = False


class BulkResult(Struct, frozen=True, kw_only=True):
    """What became of the order at position `index`: it is there (`order`), or was refused (`problem`).

    `replayed`: it was there before, or was sent twice since an answer got lost.
    """

    index: int
    status: int
    replayed: bool = False
    order: Order | None = None
    problem: Problem | None = None


class TimelineStep(Struct, frozen=True, kw_only=True):
    """`by` is the instance that did it; a step that is missing, or not known any more, has no `at`."""

    step: str
    at: Time | None = None
    by: str | None = None
    service: str | None = None
    detail: dict[str, Any] | None = None


class Timeline(Struct, frozen=True, kw_only=True):
    """`problems` says, in words, what could not be found out; `complete` that nothing more will come."""

    order: Order
    steps: list[TimelineStep]
    problems: list[str] = field(default_factory=list)
    complete: bool = False
