"""Creating orders, on an intake in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from order_service.application.create_orders import CreateOutcome, Creation, create_orders
from order_service.application.get_order import get_order_with_items
from order_service.application.ports import CreateOrder, OrderIntake
from order_service.domain.order import Item, Order, OrderId, Status, new_order

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class IntakeInMemory(OrderIntake):
    """`late` orders are inserted by somebody else just before our insertion."""

    def __init__(self, *stored: Order, late: Sequence[Order] = ()) -> None:
        self.stored = {order.order_id: order for order in stored}
        self.late = late
        self.inserted: list[CreateOrder] = []
        self.lookups = 0

    async def insert_new(self, commands: Sequence[CreateOrder]) -> Mapping[OrderId, datetime]:
        assert len({command.order.order_id for command in commands}) == len(commands)
        self.stored |= {order.order_id: order for order in self.late}
        new = [command for command in commands if command.order.order_id not in self.stored]
        self.stored |= {command.order.order_id: command.order for command in new}
        self.inserted += new
        return {command.order.order_id: NOW for command in new}

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, Order]:
        self.lookups += 1
        return {order_id: self.stored[order_id] for order_id in order_ids if order_id in self.stored}


def an_order(order_id: str, sku: str = "laptop") -> Order:
    return new_order(order_id, "c-1", [Item(sku=sku, quantity=1, price=Decimal(1))])


def commands(*orders: Order) -> list[CreateOrder]:
    return [CreateOrder(order=order, traceparent=f"trace {number}") for number, order in enumerate(orders)]


async def test_a_new_order_is_created() -> None:
    intake = IntakeInMemory()

    assert await create_orders(commands(an_order("o-1")), intake) == [
        CreateOutcome(Creation.CREATED, an_order("o-1"))
    ]
    assert intake.inserted == commands(an_order("o-1"))
    assert intake.lookups == 0


async def test_a_new_order_tells_when_it_was_created() -> None:
    [outcome] = await create_orders(commands(an_order("o-1")), IntakeInMemory())

    assert (outcome.order.created_at, outcome.order.updated_at) == (NOW, NOW)
    assert outcome.order == an_order("o-1")


async def test_the_same_order_again_is_replayed_as_it_stands_now() -> None:
    now = replace(an_order("o-1"), status=Status.DONE, version=2)
    intake = IntakeInMemory(now)

    assert await create_orders(commands(an_order("o-1")), intake) == [CreateOutcome(Creation.REPLAYED, now)]
    assert intake.inserted == []


async def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing() -> None:
    intake = IntakeInMemory(an_order("o-1"))

    outcomes = await create_orders(commands(an_order("o-1", sku="teapot")), intake)

    assert outcomes == [CreateOutcome(Creation.CONFLICT, an_order("o-1"))]
    assert intake.stored == {"o-1": an_order("o-1")}
    assert intake.inserted == []


async def test_an_order_that_somebody_else_creates_meanwhile_is_replayed_or_in_conflict() -> None:
    intake = IntakeInMemory(late=[an_order("same"), an_order("other", sku="teapot")])

    outcomes = await create_orders(commands(an_order("same"), an_order("other")), intake)

    assert [outcome.creation for outcome in outcomes] == [Creation.REPLAYED, Creation.CONFLICT]


async def test_of_duplicates_in_one_batch_the_first_creates_and_the_others_are_replayed() -> None:
    intake = IntakeInMemory()

    outcomes = await create_orders(commands(*[an_order("o-1")] * 3), intake)

    assert [outcome.creation for outcome in outcomes] == [
        Creation.CREATED,
        Creation.REPLAYED,
        Creation.REPLAYED,
    ]
    assert intake.inserted == commands(an_order("o-1"))


async def test_of_differing_contents_in_one_batch_the_first_creates_and_the_others_conflict() -> None:
    intake = IntakeInMemory()
    batch = commands(an_order("o-1"), an_order("o-1", sku="teapot"), an_order("o-1"))

    outcomes = await create_orders(batch, intake)

    assert outcomes == [
        CreateOutcome(Creation.CREATED, an_order("o-1")),
        CreateOutcome(Creation.CONFLICT, an_order("o-1")),
        CreateOutcome(Creation.REPLAYED, an_order("o-1")),
    ]


async def test_duplicates_in_one_batch_of_an_order_that_exists_create_nothing() -> None:
    intake = IntakeInMemory(an_order("o-1"))

    outcomes = await create_orders(commands(an_order("o-1"), an_order("o-1", sku="teapot")), intake)

    assert [outcome.creation for outcome in outcomes] == [Creation.REPLAYED, Creation.CONFLICT]
    assert intake.inserted == []


async def test_the_outcomes_come_in_the_order_of_the_commands() -> None:
    intake = IntakeInMemory(an_order("b"))
    batch = commands(an_order("c"), an_order("b"), an_order("a"), an_order("c", sku="teapot"), an_order("b"))

    outcomes = await create_orders(batch, intake)

    assert [(outcome.order.order_id, outcome.creation) for outcome in outcomes] == [
        ("c", Creation.CREATED),
        ("b", Creation.REPLAYED),
        ("a", Creation.CREATED),
        ("c", Creation.CONFLICT),
        ("b", Creation.REPLAYED),
    ]


async def test_an_order_is_looked_up_by_its_id() -> None:
    intake = IntakeInMemory(an_order("o-1"))

    assert await get_order_with_items(OrderId("o-1"), intake) == an_order("o-1")
    assert await get_order_with_items(OrderId("o-2"), intake) is None
