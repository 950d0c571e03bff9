"""Use case: decide about orders, and answer."""

from collections.abc import Collection, Sequence
from enum import Enum

from processor_service.application.ports import (
    Answer,
    DecidedOrders,
    OrderToProcess,
    Policy,
    ProcessingState,
)
from processor_service.domain.decision import Decision, Postponement, Verdict
from processor_service.domain.order import OrderId


class Processed(Enum):
    DECIDED = "decided"
    REPEATED = "repeated"
    """It had been decided before; the decision was sent again."""
    IGNORED = "ignored"
    """Older than what was decided, or decided by somebody else meanwhile."""


async def process_orders(
    received: Sequence[OrderToProcess], policy: Policy, orders: DecidedOrders
) -> list[Processed | Postponement]:
    """Decide about `received`, no two of one order, outside of any transaction; then record it all in one.

    A duplicate of a decided order is answered with the stored decision again: the sender asks because the
    first answer may be lost. Nothing is decided twice.
    """
    stored = await orders.find([item.order.order_id for item in received])
    fresh = [item for item in received if _is_newer(item, stored.get(item.order.order_id))]
    verdicts = dict(zip(fresh, await policy.decide([item.order for item in fresh]), strict=True))
    decided = {
        item.key: Answer(_state(item, verdict), item.traceparent)
        for item, verdict in verdicts.items()
        if isinstance(verdict, Decision)
    }
    repeated = [
        Answer(stored[item.order.order_id], item.traceparent)
        for item in received
        if _is_repeated(item, stored.get(item.order.order_id))
    ]
    saved: set[OrderId] = set()
    if decided or repeated:
        saved = await orders.record(decided, repeated)
    return [_outcome(item, verdicts.get(item), saved, stored.get(item.order.order_id)) for item in received]


def _outcome(
    item: OrderToProcess, verdict: Verdict | None, saved: Collection[OrderId], state: ProcessingState | None
) -> Processed | Postponement:
    if isinstance(verdict, Postponement):
        return verdict
    if item.order.order_id in saved:
        return Processed.DECIDED
    return Processed.REPEATED if _is_repeated(item, state) else Processed.IGNORED


def _is_newer(item: OrderToProcess, state: ProcessingState | None) -> bool:
    return state is None or state.version < item.order.version


def _is_repeated(item: OrderToProcess, state: ProcessingState | None) -> bool:
    return state is not None and state.version == item.order.version


def _state(item: OrderToProcess, decision: Decision) -> ProcessingState:
    return ProcessingState(
        order_id=item.order.order_id,
        version=item.order.version,
        decision=decision,
        attempt_count=item.attempt,
        last_error=decision.fail_reason or item.last_error,
        event=item.event,
        received_at=item.received_at,
    )
