"""Every order becomes final exactly once, decided once or cancelled, and both databases agree about it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from chaos.observed import Change, Observed
from chaos.violations import Kind, Violation

_FINAL = {"done", "failed"}


def judge(observed: Observed) -> Iterator[Violation]:
    for order_id, order in observed.orders.items():
        yield from _final(order_id, order, observed)
    for order_id in observed.states.keys() - observed.orders.keys():
        yield Violation(Kind.WRONG, "a decision about an order that does not exist", order_id)
    yield from _once(observed.order_changes, "orders", "order")
    yield from _once(observed.processor_changes, "processing_states", "state")
    yield from _finished_once(observed.order_changes)


def _final(order_id: str, order: dict[str, object], observed: Observed) -> Iterator[Violation]:
    state = observed.states.get(order_id)
    if order["status"] == "cancelled":
        return  # whatever was decided about it, and whether anything was
    if order["status"] not in _FINAL:
        yield Violation(Kind.LOST, "order did not become final", order_id, str(order["status"]))
    elif state is None:
        yield Violation(Kind.LOST, "final order has no decision", order_id)
    elif _decided(order) != _decided(state):
        detail = f"{_decided(order)} ≠ {_decided(state)}"
        yield Violation(Kind.DUPLICATED, "order and decision differ", order_id, detail)


def _decided(row: dict[str, object]) -> tuple[object, object]:
    return row["status"], row["fail_reason"]


def _once(changes: Sequence[Change], relation: str, what: str) -> Iterator[Violation]:
    """Inserted once, never deleted, and each change to a newer version (or none that anybody sees)."""
    inserted: Counter[str] = Counter()
    for change in changes:
        if change.relation != relation:
            continue
        old, new = change.old, change.new
        if change.operation == "INSERT" and new:
            inserted[new["order_id"]] += 1
        elif change.operation == "DELETE" and old:
            yield Violation(Kind.LOST, f"{what} deleted", old["order_id"])
        elif old and new and _visible(old) != _visible(new) and new["version"] <= old["version"]:
            detail = f"{_visible(old)} → {_visible(new)}"
            yield Violation(
                Kind.DUPLICATED, f"{what} changed without a newer version", new["order_id"], detail
            )
    for order_id, count in inserted.items():
        if count > 1:
            yield Violation(Kind.DUPLICATED, f"{what} inserted more than once", order_id, str(count))


def _visible(row: dict[str, object]) -> tuple[object, ...]:
    return row["version"], row["status"], row["fail_reason"]


def _finished_once(changes: Sequence[Change]) -> Iterator[Violation]:
    finished = Counter(
        change.new["order_id"]
        for change in changes
        if change.relation == "orders"
        and change.old
        and change.new
        and change.old["status"] != change.new["status"]
    )
    for order_id, count in finished.items():
        if count > 1:
            yield Violation(Kind.DUPLICATED, "order became final more than once", order_id, str(count))
