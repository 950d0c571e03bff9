"""For those who replace the decision by their own code (`APP__POLICY=module:callable`).

    from processor_service.policy import Decision, Order, RetryLater, approve, reject

    async def decide(order: Order) -> Decision:
        if order.amount and order.amount > 10_000:
            return reject("Too expensive")
        return approve()

The callable may be synchronous (it then runs in a thread), and may raise RetryLater. It may run more than
once for one order, when a crash came before its decision was committed; what it decided is committed once.
"""

from processor_service.domain.decision import Decision, RetryLater, approve, reject
from processor_service.domain.order import Item, Order

__all__ = ["Decision", "Item", "Order", "RetryLater", "approve", "reject"]
