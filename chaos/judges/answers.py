"""What the client was told must agree with itself and with what is stored."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from chaos.answers import Answer
from chaos.observed import Observed
from chaos.violations import Kind, Violation

_EXPECTED = {200, 201, 404, 409, 503}


def judge(observed: Observed) -> Iterator[Violation]:
    by_order: dict[str, list[Answer]] = defaultdict(list)
    for answer in observed.answers:
        by_order[answer.order_id].append(answer)
        if answer.status not in _EXPECTED:
            yield Violation(Kind.WRONG, "unexpected status", answer.order_id, str(answer.status))
    for order_id, answers in by_order.items():
        yield from _stored(order_id, answers, observed)
        yield from _created_once(order_id, answers)
        yield from _cancelled(order_id, answers, observed)
        yield from _never_backwards(order_id, answers)


def _stored(order_id: str, answers: Sequence[Answer], observed: Observed) -> Iterator[Violation]:
    accepted = {answer.content for answer in answers if answer.accepted}
    refused = {answer.content for answer in answers if answer.status == 409 and not answer.cancels}
    row = observed.orders.get(order_id)
    if accepted and row is None:
        yield Violation(Kind.LOST, "accepted order is not stored", order_id)
    if len(accepted) > 1:
        yield Violation(Kind.DUPLICATED, "two contents accepted", order_id, str(accepted))
    if row is not None and accepted and row["customer_id"] not in accepted:
        yield Violation(Kind.LOST, "stored content is not the accepted one", order_id, row["customer_id"])
    if refused & accepted or (row is not None and row["customer_id"] in refused):
        yield Violation(Kind.WRONG, "stored content was refused as a conflict", order_id)


def _created_once(order_id: str, answers: Sequence[Answer]) -> Iterator[Violation]:
    created = sum(answer.accepted and not answer.replayed for answer in answers)
    if created > 1:
        yield Violation(Kind.DUPLICATED, "answered as new more than once", order_id, str(created))


def _cancelled(order_id: str, answers: Sequence[Answer], observed: Observed) -> Iterator[Violation]:
    """Who was told that the order is cancelled, or is not, was told the truth for ever."""
    row = observed.orders.get(order_id, {})
    told = {answer.status for answer in answers if answer.cancels}
    if row.get("status") == "cancelled" and not told:
        yield Violation(Kind.WRONG, "cancelled, and nobody asked for it", order_id)
    if (200 in told and row.get("status") != "cancelled") or (
        409 in told and row.get("status") == "cancelled"
    ):
        detail = f"{sorted(told)}, and it is {row.get('status')}"
        yield Violation(Kind.WRONG, "cancellation answered otherwise than it is stored", order_id, detail)
    if sum(answer.status == 200 and answer.cancels and not answer.replayed for answer in answers) > 1:
        yield Violation(Kind.DUPLICATED, "cancelled more than once", order_id)


def _never_backwards(order_id: str, answers: Sequence[Answer]) -> Iterator[Violation]:
    """An answer asked for after another had come shows no older state."""
    known = -1
    ends = sorted(
        (answer for answer in answers if answer.status != 503), key=lambda answer: answer.answered_at
    )
    finished = 0
    for answer in sorted(ends, key=lambda answer: answer.asked_at):
        while finished < len(ends) and ends[finished].answered_at <= answer.asked_at:
            known = max(known, _version(ends[finished]))
            finished += 1
        if answer.status == 404 and known > 0:
            yield Violation(Kind.LOST, "accepted order was not found later", order_id)
        elif answer.order is not None and answer.order["version"] < known:
            yield Violation(Kind.WRONG, "version went back", order_id, f"{known} → {answer.order['version']}")


def _version(answer: Answer) -> int:
    return int(answer.order["version"]) if answer.order else 0
