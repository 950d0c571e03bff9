"""Use case: tell what has happened to an order, from both services."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from order_service.application.ports import OrderHistories, Processor, Step
from order_service.domain.order import Order, OrderId, Status

WHOLE_WAY = (
    "accepted",
    "committed",
    "published",
    "confirmed",
    "received",
    "decided",
    "answered",
    "applied",
)
"""The steps of every order that was decided, in their order."""

CANCELLED_WAY = ("accepted", "committed", "cancelled")
"""Those of one that was cancelled, wherever it was at that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """`complete` when the order is final and each step of its way is known."""

    order: Order
    steps: Sequence[Step]
    problems: Sequence[str]
    complete: bool


async def order_timeline(
    order_id: OrderId, histories: OrderHistories, processor: Processor
) -> Timeline | None:
    """The timeline of the order as it stands now, or None when there is none of that id."""
    ours = await histories.find(order_id)
    if ours is None:
        return None
    theirs = await processor.history(order_id)
    steps = [*ours.before, *theirs.steps, *ours.after]
    way = CANCELLED_WAY if ours.order.status is Status.CANCELLED else WHOLE_WAY
    missing = [step for step in way if step not in {known.step for known in steps}]
    is_final = ours.order.status is not Status.PENDING
    problems = [*ours.problems, *theirs.problems, *_standing_still(steps)]
    if is_final and missing and not theirs.problems:
        problems.append(f"there is no record of: {', '.join(missing)}")
    return Timeline(order=ours.order, steps=steps, problems=problems, complete=is_final and not missing)


def _standing_still(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        event = f"{step.detail.get('event_type')} in {step.service}"
        match step.step:
            case "waiting":
                yield f"{event} waits in the outbox for: {step.detail.get('waits_for')}"
            case "retry":
                yield f"{event} waits for another attempt, after: {step.detail.get('reason')}"
            case "dead_letter":
                yield f"{event} is dead letter {step.detail.get('id')}: {step.detail.get('reason')}"
