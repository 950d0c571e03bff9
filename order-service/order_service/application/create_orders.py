"""Use case: create orders, each exactly once."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from order_service.application.ports import CreateOrder, OrderIntake
from order_service.domain.order import Order, OrderId


class Creation(Enum):
    CREATED = "created"
    REPLAYED = "replayed"
    """The order was there with the same content."""
    CONFLICT = "conflict"
    """The order was there with other content, and was left untouched."""


class CreateOutcome(NamedTuple):
    """`order` is the order as it is stored now."""

    creation: Creation
    order: Order


async def create_orders(commands: Sequence[CreateOrder], intake: OrderIntake) -> list[CreateOutcome]:
    """Create each order with its event, in one transaction; return an outcome for each command, in order.

    The first of several commands for one id creates; the others are answered as if they had come later.
    """
    first: dict[OrderId, CreateOrder] = {}
    for command in commands:
        first.setdefault(command.order.order_id, command)
    created = await intake.insert_new(list(first.values()))
    seen_before = {
        command.order.order_id
        for command in commands
        if command.order.order_id not in created or command is not first[command.order.order_id]
    }
    stored = await intake.find(seen_before) if seen_before else {}
    return [
        CreateOutcome(Creation.CREATED, command.order.stored_at(created[command.order.order_id]))
        if command.order.order_id in created and command is first[command.order.order_id]
        else _compare(command.order, stored[command.order.order_id])
        for command in commands
    ]


def _compare(order: Order, stored: Order) -> CreateOutcome:
    return CreateOutcome(Creation.REPLAYED if order.same_content(stored) else Creation.CONFLICT, stored)
