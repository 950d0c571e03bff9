"""A client of order-processor's HTTP APIs, for programs that block and for programs on asyncio.

with OrderProcessorClient() as client:
    client.orders.create(NewOrder(order_id="ord-1", customer_id="me", items=[item]))
    print(client.orders.wait("ord-1").status)
"""

from order_processor_client.admin_models import DeadLetterFilter
from order_processor_client.async_client import AsyncOrderProcessorClient
from order_processor_client.errors import (
    ClientError,
    FieldError,
    Misconfigured,
    Problem,
    ProblemError,
    UnexpectedAnswer,
    Unreachable,
)
from order_processor_client.models import BulkResult, CreatedOrder, Item, NewOrder, Order, Timeline
from order_processor_client.sync_client import OrderProcessorClient

__all__ = [
    "AsyncOrderProcessorClient",
    "BulkResult",
    "ClientError",
    "CreatedOrder",
    "DeadLetterFilter",
    "FieldError",
    "Item",
    "Misconfigured",
    "NewOrder",
    "Order",
    "OrderProcessorClient",
    "Problem",
    "ProblemError",
    "Timeline",
    "UnexpectedAnswer",
    "Unreachable",
]
