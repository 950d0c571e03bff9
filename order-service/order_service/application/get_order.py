"""Use case: look an order up."""

from order_service.application.ports import OrderIntake
from order_service.domain.order import Order, OrderId


async def get_order(order_id: OrderId, orders: OrderIntake) -> Order | None:
    """The order as it stands now, or None when there is none of that id."""
    return (await orders.find([order_id])).get(order_id)
