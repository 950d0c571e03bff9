"""What is told of an order's way, put together from both services."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from order_service.application.order_timeline import WHOLE_WAY, Timeline, order_timeline
from order_service.application.ports import (
    OrderHistories,
    OrderHistory,
    Processor,
    ProcessorHistory,
    Step,
)
from order_service.domain.order import Item, Order, OrderId, Status, new_order

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
OURS, THEIRS = WHOLE_WAY[:4], WHOLE_WAY[4:7]


class Known(OrderHistories, Processor):
    """What both services know of the order `o-1`."""

    def __init__(
        self,
        *,
        status: Status = Status.DONE,
        before: Sequence[Step] = (),
        theirs: Sequence[Step] = (),
        after: Sequence[Step] = (),
        problems: Sequence[str] = (),
        their_problems: Sequence[str] = (),
    ) -> None:
        self._ours = OrderHistory(order=an_order(status), before=before, after=after, problems=problems)
        self._theirs = ProcessorHistory(steps=theirs, problems=their_problems)
        self.asked = False

    async def find(self, order_id: OrderId) -> OrderHistory | None:
        return self._ours if order_id == "o-1" else None

    async def history(self, order_id: OrderId) -> ProcessorHistory:
        self.asked = True
        return self._theirs


def an_order(status: Status) -> Order:
    order = new_order("o-1", "c-1", [Item(sku="lamp", quantity=1, price=Decimal(1))])
    return Order(
        order_id=order.order_id,
        customer_id=order.customer_id,
        items=order.items,
        total_amount=order.total_amount,
        status=status,
    )


def steps(*names: str, **detail: object) -> list[Step]:
    return [Step(step=name, at=NOON, by="p-1", service="a-service", detail=detail) for name in names]


async def timeline(known: Known) -> Timeline:
    found = await order_timeline(OrderId("o-1"), known, known)
    assert found
    return found


async def test_the_steps_of_both_services_stand_in_the_order_of_the_way() -> None:
    known = Known(before=steps(*OURS), theirs=steps(*THEIRS), after=steps("applied"))

    found = await timeline(known)

    assert [step.step for step in found.steps] == [*WHOLE_WAY]
    assert (found.complete, found.problems) == (True, [])


async def test_of_an_unknown_order_the_processor_is_not_asked() -> None:
    known = Known()

    assert await order_timeline(OrderId("o-2"), known, known) is None
    assert not known.asked


async def test_an_order_on_its_way_is_not_complete_and_that_is_no_problem() -> None:
    found = await timeline(Known(status=Status.PENDING, before=steps(*OURS)))

    assert (found.complete, found.problems) == (False, [])


async def test_of_a_final_order_what_is_not_known_is_told() -> None:
    found = await timeline(Known(before=steps("committed"), theirs=steps(*THEIRS), after=steps("applied")))

    assert not found.complete
    assert found.problems == ["there is no record of: accepted, published, confirmed"]


async def test_a_cancelled_order_has_a_shorter_way_and_may_have_gone_further() -> None:
    short = Known(status=Status.CANCELLED, before=steps(*OURS[:2]), after=steps("cancelled"))
    long = Known(
        status=Status.CANCELLED, before=steps(*OURS), theirs=steps(*THEIRS), after=steps("cancelled")
    )

    for known in (short, long):
        found = await timeline(known)
        assert (found.complete, found.problems) == (True, [])


async def test_without_the_processor_only_that_is_told_to_be_missing() -> None:
    known = Known(before=steps(*OURS), after=steps("applied"), their_problems=["it does not answer"])

    found = await timeline(known)

    assert [step.step for step in found.steps] == [*OURS, "applied"]
    assert (found.complete, found.problems) == (False, ["it does not answer"])


async def test_what_stands_still_is_told_in_words() -> None:
    known = Known(
        status=Status.PENDING,
        before=steps("waiting", event_type="order.created", waits_for="the broker"),
        theirs=[
            *steps("retry", event_type="order.created", reason="the bank sleeps", id=7),
            *steps("dead_letter", event_type="order.created", reason="no stock", id=8),
        ],
        problems=["something was not looked for"],
    )

    assert (await timeline(known)).problems == [
        "something was not looked for",
        "order.created in a-service waits in the outbox for: the broker",
        "order.created in a-service waits for another attempt, after: the bank sleeps",
        "order.created in a-service is dead letter 8: no stock",
    ]
