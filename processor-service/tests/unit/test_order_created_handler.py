"""What the consumer is told of orders that could not be decided."""

from collections.abc import Collection, Mapping, Sequence

import pytest

from processor_service.application.ports import Answer, DecidedOrders, Policy, ProcessingState
from processor_service.consumers.order_created import OrderCreatedHandler
from processor_service.domain.decision import Postponement, Verdict
from processor_service.domain.order import Order, OrderId
from service_kit.consumer import Received, RetryLater


class NothingDecided(DecidedOrders):
    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, ProcessingState]:
        return {}

    async def record(self, decided: Mapping[str, Answer], repeated: Sequence[Answer]) -> set[OrderId]:
        raise AssertionError("there is nothing to record")


class PutsOff(Policy):
    def __init__(self, postponement: Postponement) -> None:
        self.postponement = postponement

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        return [self.postponement for _ in orders]


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("delay_seconds", [None, 7.5])
async def test_an_order_that_is_put_off_is_retried_as_the_policy_said(
    delay_seconds: float | None, counts: bool
) -> None:
    told: list[str] = []
    policy = PutsOff(Postponement(reason="the bank sleeps", delay_seconds=delay_seconds, counts=counts))
    handler = OrderCreatedHandler(policy, NothingDecided(), told.append)
    body = b'{"order_id": "o-1", "items": ["laptop"]}'
    event = handler.decode("order.created", body)

    received = Received(event, attempt=1, last_error=None, traceparent=None, body=body, received_at=0.0)
    outcomes = await handler.handle([received])

    assert outcomes == [RetryLater(reason="the bank sleeps", delay_seconds=delay_seconds, counts=counts)]
    assert told == ["postponed"]
