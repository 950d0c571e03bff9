"""Decisions as spans."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from processor_service.application.ports import Policy
from processor_service.domain.decision import Decision, Postponement, Verdict, approve, reject
from processor_service.domain.order import Order, OrderId
from processor_service.infrastructure.policies import CallablePolicy
from processor_service.infrastructure.traced_policy import TracedPolicy
from service_kit.observability.subjects import in_traces
from service_kit.testing.recorded_spans import RecordedSpans


@pytest.fixture
async def spans() -> AsyncIterator[RecordedSpans]:
    spans = RecordedSpans()
    yield spans
    await spans.ended()


class Scripted(Policy):
    """Decides by the order's id; remembers which orders came together."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.batches: list[list[str]] = []

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        self.batches.append([order.order_id for order in orders])
        return [self.verdicts[order.order_id] for order in orders]


def trace(number: int, *, sampled: bool = True) -> str:
    return f"00-{number:032x}-{number:016x}-{int(sampled):02d}"


def order(order_id: str) -> Order:
    return Order(order_id=OrderId(order_id), customer_id=None, items=(), amount=None, version=1)


async def decided(policy: Policy, traces: Mapping[str, str | None]) -> Sequence[Verdict]:
    with in_traces(traces):
        return await policy.decide([order(order_id) for order_id in traces])


async def test_orders_that_are_not_sampled_are_decided_together_without_a_span(spans: RecordedSpans) -> None:
    inner = Scripted(a=approve(), b=reject("no"))
    verdicts = await decided(TracedPolicy(inner, spans.tracer), {"a": None, "b": trace(2, sampled=False)})
    assert verdicts == [approve(), reject("no")]
    assert inner.batches == [["a", "b"]]
    assert await spans.ended() == []


async def test_each_sampled_order_has_a_span_that_says_what_was_decided(spans: RecordedSpans) -> None:
    postponed = Postponement(reason="the bank sleeps")
    inner = Scripted(a=approve(), b=reject("no"), c=postponed, d=approve())
    traces = {"a": trace(1), "b": trace(2), "c": trace(3), "d": None}

    verdicts = await decided(TracedPolicy(inner, spans.tracer), traces)

    assert verdicts == [approve(), reject("no"), postponed, approve()]
    told = {span.parent: dict(span.attributes) for span in await spans.ended()}
    assert told == {
        trace(1): {"order_id": "a", "decision": "success"},
        trace(2): {"order_id": "b", "decision": "failed", "fail_reason": "no"},
        trace(3): {"order_id": "c", "decision": "postponed", "reason": "the bank sleeps"},
    }


async def test_orders_of_one_message_share_a_span(spans: RecordedSpans) -> None:
    inner = Scripted(a=approve(), b=reject("no"), c=approve())
    traces = {"a": trace(1), "b": trace(2), "c": trace(1)}
    assert await decided(TracedPolicy(inner, spans.tracer), traces) == [approve(), reject("no"), approve()]
    shared = next(span for span in await spans.ended() if span.parent == trace(1))
    assert (shared.name, shared.kind, shared.attributes) == ("decide", "INTERNAL", {"events": 2})


async def test_orders_are_still_decided_at_the_same_time(spans: RecordedSpans) -> None:
    all_there = asyncio.Barrier(3)

    async def decide(_: Order) -> Decision:
        await all_there.wait()
        return approve()

    policy = TracedPolicy(CallablePolicy(decide), spans.tracer)
    verdicts = await decided(policy, {"a": trace(1), "b": trace(2), "c": None})
    assert verdicts == [approve()] * 3
