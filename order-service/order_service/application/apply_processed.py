"""Use case: move orders to the status that the processor reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from order_service.application.ports import Finished, ProcessedOrder, UnitOfWork


class Applied(Enum):
    APPLIED = "applied"
    IGNORED = "ignored"
    """A duplicate, or older than what is stored."""
    UNKNOWN_ORDER = "unknown order"


@dataclass(frozen=True, slots=True)
class AppliedResults:
    """An outcome for each result, in order, and the orders that became final."""

    outcomes: Sequence[Applied]
    finished: Sequence[Finished]


async def apply_processed(results: Sequence[ProcessedOrder], uow: UnitOfWork) -> AppliedResults:
    """Apply `results`, no two of one order, in one transaction.

    A result older than its order is ignored: RabbitMQ may deliver late, twice and out of order. The key of a
    result whose order is unknown is not accepted, so that it can be tried again.
    """
    async with uow:
        existing = await uow.orders.lock([result.order_id for result in results])
        known = [result for result in results if result.order_id in existing]
        fresh = await uow.inbox.accept([result.key for result in known])
        finished = await uow.orders.finish([result for result in known if result.key in fresh])
        await uow.commit()
    moved = {order.order_id for order in finished}
    outcomes = [
        Applied.UNKNOWN_ORDER
        if result.order_id not in existing
        else Applied.APPLIED
        if result.order_id in moved
        else Applied.IGNORED
        for result in results
    ]
    return AppliedResults(outcomes, finished)
