"""Use case: what a ruleset would have made of past orders. Nothing is written."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from processor_service.application.ports import PastOrder, PastOrders
from processor_service.domain.order import Order, OrderId
from processor_service.domain.rules import RANDOM_FAILURE, Hit, Ruleset

DONE = "done"
PAGE = 100
"""Orders read at a time: of the largest, with their events, 150 MiB."""
EXAMPLES_MAX = 5


class Unreadable(Exception):
    """What is stored of an order cannot be read."""


@dataclass(frozen=True, slots=True)
class Example:
    """An order that changes. `rule` and `sku` are what would decide now, None when no rule applies."""

    order_id: OrderId
    rule: int | None
    sku: str | None


@dataclass(slots=True)
class Change:
    """Orders that go from one outcome to another, each `done` or `failed: ` and the reason."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """`orders` were looked at; `unreadable` ones among them were left out of the comparison."""

    version: str
    orders: int = 0
    unchanged: int = 0
    unreadable: int = 0
    changes: dict[tuple[str, str], Change] = field(default_factory=lambda: defaultdict(Change))

    @property
    def changed(self) -> int:
        return sum(change.count for change in self.changes.values())

    def ranked(self) -> list[tuple[tuple[str, str], Change]]:
        """The changes, those of most orders first."""
        return sorted(self.changes.items(), key=lambda item: (-item[1].count, item[0]))

    def report(self) -> dict[str, object]:
        """As plain values."""
        return {
            "version": self.version,
            "orders": self.orders,
            "unchanged": self.unchanged,
            "changed": self.changed,
            "unreadable": self.unreadable,
            "changes": [
                {
                    "from": before,
                    "to": after,
                    "count": change.count,
                    "examples": [asdict(example) for example in change.examples],
                }
                for (before, after), change in self.ranked()
            ],
        }


def _nobody_watches(_: int) -> None: ...


async def rehearse(
    ruleset: Ruleset,
    past: PastOrders,
    *,
    last: int,
    read: Callable[[bytes], Order],
    on_progress: Callable[[int], None] = _nobody_watches,
) -> Rehearsal:
    """Run `ruleset` over the `last` orders that were decided, the newest first.

    Rules alone are compared, so that the same orders always give the same answer: an order that no rule
    applies to counts as done, and so does one that failed at random. `read` raises Unreadable; `on_progress`
    is told how many orders were looked at.
    """
    rehearsal = Rehearsal(version=ruleset.version)
    page: Sequence[PastOrder] = ()
    while left := last - rehearsal.orders:
        page = await past.before(page[-1] if page else None, min(left, PAGE))
        if not page:
            break
        for order in page:
            _compare(order, ruleset, read, rehearsal)
        rehearsal.orders += len(page)
        on_progress(rehearsal.orders)
    return rehearsal


def _compare(
    order: PastOrder, ruleset: Ruleset, read: Callable[[bytes], Order], rehearsal: Rehearsal
) -> None:
    try:
        hit = ruleset.hit(read(order.event))
    except Unreadable:
        rehearsal.unreadable += 1
        return
    before, after = _outcome_before(order), _outcome(hit.fail_reason if hit else None)
    if before == after:
        rehearsal.unchanged += 1
        return
    change = rehearsal.changes[before, after]
    change.count += 1
    if len(change.examples) < EXAMPLES_MAX:
        change.examples.append(_example(order, hit))


def _outcome_before(order: PastOrder) -> str:
    by_chance = order.rule is None and order.fail_reason == RANDOM_FAILURE
    return _outcome(None if by_chance else order.fail_reason)


def _outcome(fail_reason: str | None) -> str:
    return DONE if fail_reason is None else f"failed: {fail_reason}"


def _example(order: PastOrder, hit: Hit | None) -> Example:
    return Example(order.order_id, hit.number if hit else None, hit.sku if hit else None)
