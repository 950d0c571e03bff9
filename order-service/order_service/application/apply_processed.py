"""Use case: move orders to the status that the processor reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from order_service.application.ports import Finished, OrderResults, ProcessedOrder


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


async def apply_processed(results: Sequence[ProcessedOrder], orders: OrderResults) -> AppliedResults:
    """Apply `results`, no two of one order, in one transaction.

    A result older than its order is ignored: RabbitMQ may deliver late, twice and out of order. The key of a
    result whose order is unknown is not accepted, so that it can be tried again.
    """
    effect = await orders.apply(results)
    outcomes = dict.fromkeys(effect.unknown, Applied.UNKNOWN_ORDER)
    outcomes |= dict.fromkeys((order.order_id for order in effect.finished), Applied.APPLIED)
    return AppliedResults(
        [outcomes.get(result.order_id, Applied.IGNORED) for result in results], effect.finished
    )
