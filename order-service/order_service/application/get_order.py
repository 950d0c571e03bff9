"""Use case: look an order up."""

from order_service.application.ports import OrderIntake, OrderReader
from order_service.domain.order import Order, OrderId, OrderSummary


async def get_order(order_id: OrderId, orders: OrderReader) -> OrderSummary | None:
    """The order as it stands now, or None when there is none of that id."""
    return (await orders.summaries([order_id])).get(order_id)


async def get_order_with_items(order_id: OrderId, orders: OrderIntake) -> Order | None:
    """The same with everything that was ordered, which may be large."""
    return (await orders.find([order_id])).get(order_id)
