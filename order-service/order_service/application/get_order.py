"""Use case: look an order up."""

from collections.abc import Sequence

from order_service.application.ports import OrderIntake, OrderReader
from order_service.domain.order import Order, OrderId, OrderSummary


async def get_orders(order_ids: Sequence[OrderId], orders: OrderReader) -> Sequence[OrderSummary | None]:
    """Each order as it stands now, or None when there is none of that id."""
    found = await orders.summaries(order_ids)
    return [found.get(order_id) for order_id in order_ids]


async def get_order_with_items(order_id: OrderId, orders: OrderIntake) -> Order | None:
    """One order with everything that was ordered, which may be large."""
    return (await orders.find([order_id])).get(order_id)
