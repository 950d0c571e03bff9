"""Use case: tell again of orders that have been pending too long."""

from collections.abc import Callable

from order_service.application.ports import CreateOrder, UnitOfWork


async def reemit_pending(
    uow: UnitOfWork, *, after_seconds: float, limit: int, new_trace: Callable[[], str]
) -> int:
    """Write `order.created` again for up to `limit` overdue orders; return how many.

    Heals what the broker confirmed and lost, in either direction: the processor answers a duplicate of an
    order it has decided by sending its decision again.
    """
    async with uow:
        overdue = await uow.orders.take_overdue(limit, after_seconds=after_seconds)
        await uow.outbox.add([CreateOrder(order=order, traceparent=new_trace()) for order in overdue])
        await uow.commit()
    return len(overdue)
