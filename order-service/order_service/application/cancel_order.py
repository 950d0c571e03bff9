"""Use case: cancel an order that nobody has decided about yet."""

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum

from order_service.application.ports import OrderReader, UnitOfWork
from order_service.domain.order import OrderId, OrderSummary, Status


class Cancellation(Enum):
    CANCELLED = "cancelled"
    REPEATED = "repeated"
    """It had been cancelled before; the first reason stays."""
    TOO_LATE = "too late"
    """It was decided before."""


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """`order` is the order as it is stored now."""

    cancellation: Cancellation
    order: OrderSummary


async def cancel_order(
    order_id: OrderId,
    reason: str | None,
    traceparent: str,
    uow: UnitOfWork,
    orders: OrderReader,
    *,
    customers: Set[str] | None = None,
) -> CancelOutcome | None:
    """Cancel the order and tell of it, in one transaction; None when there is no such order of `customers`.

    Against a decision that is being applied exactly one wins: both move a pending order only, and the second
    waits for the first to commit.
    """
    if customers is not None:  # whose order it is never changes
        order = (await orders.summaries([order_id])).get(order_id)
        if order is None or order.customer_id not in customers:
            return None
    async with uow:
        cancelled = await uow.orders.cancel(order_id, reason)
        if cancelled:
            await uow.outbox.add_cancelled(cancelled, traceparent)
            await uow.commit()
            return CancelOutcome(Cancellation.CANCELLED, cancelled)
    order = (await orders.summaries([order_id])).get(order_id)
    if order is None or order.status is Status.PENDING:  # it was created just now
        return None
    was_cancelled = order.status is Status.CANCELLED
    return CancelOutcome(Cancellation.REPEATED if was_cancelled else Cancellation.TOO_LATE, order)
