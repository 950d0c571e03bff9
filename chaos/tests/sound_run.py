"""A small run in which all that is promised held, to be spoilt by tests."""

from collections.abc import Mapping

import msgspec

from chaos.answers import Answer
from chaos.bystander import Seen
from chaos.observed import Change, Level, Observed

CREATED = {"order_id": "a", "customer_id": "c", "items": [], "amount": 1, "version": 1}
PROCESSED = {"order_id": "a", "status": "success", "fail_reason": None, "version": 2}
PENDING = {"order_id": "a", "customer_id": "c", "status": "pending", "version": 1, "fail_reason": None}
DONE = {**PENDING, "status": "done", "version": 2}
CANCELLED = {**PENDING, "order_id": "x", "status": "cancelled", "version": 2}
CANCELLATION = {"order_id": "x", "customer_id": "c", "reason": None, "version": 2}
STATE = {"order_id": "a", "status": "done", "version": 1, "fail_reason": None}
LEVEL = Level(megabytes=80, database_connections=10, broker_connections=4, files=30)
POISON = ("order.created", b"no JSON")


CANCEL_EVENT = {"event_type": "order.cancelled", "payload": CANCELLATION, "message_id": "x"}


def sound_run() -> Observed:
    """One order, accepted, asked for again, decided and done; one that was cancelled; and one poison."""
    ours = {"event_type": "order.created", "payload": CREATED, "message_id": "1"}
    theirs = {"event_type": "order.processed", "payload": PROCESSED, "message_id": "2"}
    return Observed(
        answers=[
            answered(201, order=PENDING),
            answered(201, replayed=True, order=DONE, asked_at=9.0),
            cancelled(200, order=CANCELLED),
            cancelled(200, replayed=True, order=CANCELLED),
        ],
        orders={"a": dict(DONE), "x": dict(CANCELLED)},
        states={"a": dict(STATE)},
        order_changes=[
            inserted("orders", PENDING),
            inserted("outbox", ours),
            updated("orders", PENDING, DONE),
            inserted("orders", {**PENDING, "order_id": "x"}),
            updated("orders", {**PENDING, "order_id": "x"}, CANCELLED),
            inserted("outbox", CANCEL_EVENT),
        ],
        processor_changes=[
            inserted("processing_states", STATE),
            inserted("outbox", theirs),
            deleted("outbox", theirs),
        ],
        left={"pending orders": 0},
        dead=[POISON],
        poison=[POISON],
        seen=[Seen("2", msgspec.json.encode(PROCESSED))],
        before={"order-service": LEVEL},
        after={"order-service": LEVEL},
    )


def answered(
    status: int,
    *,
    order_id: str = "a",
    content: str | None = "c",
    replayed: bool = False,
    order: dict[str, object] | None = None,
    asked_at: float = 1.0,
    cancels: bool = False,
) -> Answer:
    return Answer(
        order_id=order_id,
        content=content,
        status=status,
        replayed=replayed,
        order=order,
        asked_at=asked_at,
        answered_at=asked_at + 1,
        cancels=cancels,
    )


def cancelled(
    status: int, *, order_id: str = "x", replayed: bool = False, order: dict[str, object] | None = None
) -> Answer:
    return answered(
        status, order_id=order_id, content=None, replayed=replayed, order=order, asked_at=5.0, cancels=True
    )


def inserted(relation: str, row: Mapping[str, object]) -> Change:
    return Change(relation=relation, operation="INSERT", old=None, new=dict(row))


def updated(relation: str, old: Mapping[str, object], new: Mapping[str, object]) -> Change:
    return Change(relation=relation, operation="UPDATE", old=dict(old), new=dict(new))


def deleted(relation: str, row: Mapping[str, object]) -> Change:
    return Change(relation=relation, operation="DELETE", old=dict(row), new=None)
