"""What became of an order, as others are told of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from order_service.domain.order import OrderSummary, Status


class EventType(StrEnum):
    """One for each status: there is no other change of an order."""

    CREATED = "order.created"
    DONE = "order.done"
    FAILED = "order.failed"
    CANCELLED = "order.cancelled"

    @property
    def status(self) -> Status:
        """Which an order has after it."""
        return _STATUSES[self]


_STATUSES = {
    EventType.CREATED: Status.PENDING,
    EventType.DONE: Status.DONE,
    EventType.FAILED: Status.FAILED,
    EventType.CANCELLED: Status.CANCELLED,
}
TYPE_OF = {status: type for type, status in _STATUSES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """A change of an order: its place in the log, and the order as it was right after it."""

    position: int
    type: EventType
    at: datetime
    order: OrderSummary
