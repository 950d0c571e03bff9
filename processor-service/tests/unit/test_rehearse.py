"""What another ruleset would have made of past orders."""

from collections.abc import Sequence
from datetime import UTC, datetime

from processor_service.application.ports import PastOrder, PastOrders
from processor_service.application.rehearse import Example, Unreadable, rehearse
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import RANDOM_FAILURE, Rule, Ruleset

NEW = Ruleset([Rule(skus=frozenset({"piano"}), fail_reason="Too heavy")])


class Decided(PastOrders):
    """Orders named by their place, the newest first; what each was decided on is its SKU."""

    def __init__(self, *decided: tuple[str, str | None, int | None]) -> None:
        self.pages: list[int] = []
        self._orders = [
            PastOrder(
                order_id=OrderId(f"o-{place}"),
                decided_at=datetime(2030, 1, 1, tzinfo=UTC),
                fail_reason=fail_reason,
                rule=rule,
                event=sku.encode(),
            )
            for place, (sku, fail_reason, rule) in enumerate(decided)
        ]

    async def before(self, last: PastOrder | None, limit: int) -> Sequence[PastOrder]:
        self.pages.append(limit)
        start = self._orders.index(last) + 1 if last else 0
        return self._orders[start : start + limit]


def read(event: bytes) -> Order:
    if event == b"broken":
        raise Unreadable
    items = (Item(sku="pen"), Item(sku=event.decode()))
    return Order(order_id=OrderId("o"), customer_id=None, items=items, amount=None, version=1)


async def test_what_changes_is_counted_with_examples() -> None:
    past = Decided(
        ("piano", None, None),
        ("teapot", "Embargo", 1),
        ("lamp", None, None),
        ("piano", None, None),
        ("piano", "Too heavy", 7),
    )

    rehearsal = await rehearse(NEW, past, last=100, read=read)

    assert (rehearsal.orders, rehearsal.unchanged, rehearsal.changed) == (5, 2, 3)
    assert rehearsal.report()["changes"] == [
        {
            "from": "done",
            "to": "failed: Too heavy",
            "count": 2,
            "examples": [
                {"order_id": "o-0", "rule": 1, "sku": "piano"},
                {"order_id": "o-3", "rule": 1, "sku": "piano"},
            ],
        },
        {
            "from": "failed: Embargo",
            "to": "done",
            "count": 1,
            "examples": [{"order_id": "o-1", "rule": None, "sku": None}],
        },
    ]


async def test_what_failed_at_random_counts_as_done() -> None:
    past = Decided(("lamp", RANDOM_FAILURE, None), ("lamp", None, None), ("lamp", "The bank said no", None))

    rehearsal = await rehearse(Ruleset([], success_rate=0.0), past, last=100, read=read)

    assert rehearsal.unchanged == 2
    assert [*rehearsal.changes] == [("failed: The bank said no", "done")]


async def test_a_rule_that_gives_the_reason_of_chance_is_a_rule() -> None:
    past = Decided(("lamp", RANDOM_FAILURE, 1))

    rehearsal = await rehearse(NEW, past, last=100, read=read)

    assert [*rehearsal.changes] == [(f"failed: {RANDOM_FAILURE}", "done")]


async def test_the_newest_are_looked_at_page_by_page_and_no_more_than_asked_for() -> None:
    past = Decided(*[("piano", None, None)] * 2000)
    progress: list[int] = []

    rehearsal = await rehearse(NEW, past, last=220, read=read, on_progress=progress.append)

    assert (rehearsal.orders, rehearsal.changed) == (220, 220)
    assert (past.pages, progress) == ([100, 100, 20], [100, 200, 220])
    [change] = rehearsal.changes.values()
    assert change.examples == [Example(OrderId(f"o-{number}"), 1, "piano") for number in range(5)]


async def test_what_cannot_be_read_is_left_out_and_counted() -> None:
    rehearsal = await rehearse(NEW, Decided(("broken", None, None)), last=100, read=read)

    assert (rehearsal.orders, rehearsal.unreadable, rehearsal.unchanged) == (1, 1, 0)
    assert not rehearsal.changes


async def test_without_past_orders_nothing_changes() -> None:
    rehearsal = await rehearse(NEW, Decided(), last=100, read=read)

    assert rehearsal.report() == {
        "version": NEW.version,
        "orders": 0,
        "unchanged": 0,
        "changed": 0,
        "unreadable": 0,
        "changes": [],
    }
