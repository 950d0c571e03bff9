"""Decisions as spans, within which the user's code runs."""

import asyncio
from collections.abc import Sequence

from processor_service.application.ports import Policy
from processor_service.domain.decision import Postponement, Verdict
from processor_service.domain.order import Order
from service_kit.observability.subjects import traceparent_of
from service_kit.observability.trace_context import is_sampled
from service_kit.tracing.messaging import EVENTS
from service_kit.tracing.tracer import Attributes, Kind, Tracer


class TracedPolicy:
    """Implements Policy by another one, that decides sampled orders within spans of their own.

    What the policy traces itself is then part of the order's trace. Orders that share a context, having come
    in one message, share a span.
    """

    def __init__(self, policy: Policy, tracer: Tracer) -> None:
        self._policy = policy
        self._tracer = tracer

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        groups = _by_context(orders)
        if groups.keys() <= {None}:
            return await self._policy.decide(orders)
        decided = await asyncio.gather(*(self._decide(*group) for group in groups.items()))
        verdicts = {order.order_id: verdict for group in decided for order, verdict in group}
        return [verdicts[order.order_id] for order in orders]

    async def _decide(
        self, traceparent: str | None, orders: Sequence[Order]
    ) -> Sequence[tuple[Order, Verdict]]:
        if traceparent is None:
            return list(zip(orders, await self._policy.decide(orders), strict=True))
        alone = len(orders) == 1
        about: Attributes = {"order_id": orders[0].order_id} if alone else {EVENTS: len(orders)}
        span = self._tracer.start("decide", Kind.INTERNAL, parent=traceparent, attributes=about)
        try:
            with span.current():
                verdicts = await self._policy.decide(orders)
            if alone:
                span.add(_told(verdicts[0]))
        finally:
            span.end()
        return list(zip(orders, verdicts, strict=True))


def _by_context(orders: Sequence[Order]) -> dict[str | None, list[Order]]:
    """The orders of each sampled context, and all others under None."""
    groups: dict[str | None, list[Order]] = {}
    for order in orders:
        traceparent = traceparent_of(order.order_id)
        groups.setdefault(traceparent if is_sampled(traceparent) else None, []).append(order)
    return groups


def _told(verdict: Verdict) -> Attributes:
    if isinstance(verdict, Postponement):
        return {"decision": "postponed", "reason": verdict.reason}
    if verdict.fail_reason is not None:
        return {"decision": "failed", "fail_reason": verdict.fail_reason}
    return {"decision": "success"}
