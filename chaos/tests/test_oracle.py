"""The oracle finds each violation that a test makes up, and nothing in a sound run."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from chaos.bystander import Seen
from chaos.observed import Change, Observed
from chaos.oracle import violations
from chaos.tests.sound_run import (
    CANCEL_EVENT,
    CANCELLED,
    CREATED,
    DONE,
    LEVEL,
    PENDING,
    POISON,
    PROCESSED,
    STATE,
    answered,
    cancelled,
    deleted,
    inserted,
    sound_run,
    updated,
)

Spoil = Callable[[Observed], object]


def test_a_sound_run_shows_no_violation() -> None:
    assert violations(sound_run()) == []


def _ours(*changes: Change) -> Spoil:
    return lambda run: setattr(run, "order_changes", [*run.order_changes, *changes])


def _theirs(*changes: Change) -> Spoil:
    return lambda run: setattr(run, "processor_changes", [*run.processor_changes, *changes])


def _answers(*answers: object) -> Spoil:
    return lambda run: setattr(run, "answers", [*run.answers, *answers])


def _after(**level: float) -> Spoil:
    return lambda run: run.after.update({"order-service": replace(LEVEL, **level)})  # type: ignore[arg-type]


def _seen(message_id: str, **fields: object) -> Spoil:
    body = msgspec.json.encode({**PROCESSED, **fields})
    return lambda run: setattr(run, "seen", [*run.seen, Seen(message_id, body)])


_EVENT = {"event_type": "order.created", "payload": {**CREATED, "amount": 2}, "message_id": "3"}
_ANSWER = {"event_type": "order.processed", "payload": {**PROCESSED, "status": "failed"}, "message_id": "4"}
_UNSEEN = {"event_type": "order.processed", "payload": PROCESSED, "message_id": "5"}

SPOILT: dict[str, Spoil] = {
    # what the client was told
    "unexpected status": _answers(answered(500)),
    "accepted order is not stored": _answers(answered(201, order_id="b", order={**PENDING, "order_id": "b"})),
    "two contents accepted": _answers(answered(201, content="other", replayed=True, order=PENDING)),
    "stored content is not the accepted one": lambda run: run.orders["a"].update(customer_id="other"),
    "stored content was refused as a conflict": _answers(answered(409)),
    "answered as new more than once": _answers(answered(201, order=PENDING)),
    "accepted order was not found later": _answers(answered(404, content=None, asked_at=5.0)),
    "version went back": _answers(answered(200, content=None, order=PENDING, asked_at=20.0)),
    "cancelled, and nobody asked for it": lambda run: run.orders["a"].update(status="cancelled"),
    "cancellation answered otherwise than it is stored": _answers(cancelled(409)),
    "cancelled more than once": _answers(cancelled(200, order=CANCELLED)),
    # what is stored
    "order did not become final": lambda run: run.orders["a"].update(status="pending"),
    "final order has no decision": lambda run: run.states.clear(),
    "order and decision differ": lambda run: run.states["a"].update(
        status="failed", fail_reason="Random failure"
    ),
    "a decision about an order that does not exist": lambda run: run.states.update(b=dict(STATE)),
    "order deleted": _ours(deleted("orders", DONE)),
    "order inserted more than once": _ours(inserted("orders", PENDING)),
    "order changed without a newer version": _ours(updated("orders", DONE, {**DONE, "status": "failed"})),
    "order became final more than once": _ours(updated("orders", PENDING, DONE)),
    "state inserted more than once": _theirs(inserted("processing_states", STATE)),
    "state changed without a newer version": _theirs(
        updated("processing_states", STATE, {**STATE, "status": "failed"})
    ),
    # events
    "did not settle": lambda run: setattr(run, "settled", False),
    "work left": lambda run: run.left.update({"pending orders": 1}),
    "unexpected event": _ours(inserted("outbox", {**_EVENT, "event_type": "order.lost"})),
    "two contents of order.created": _ours(inserted("outbox", _EVENT)),
    "cancellations and their events differ": _ours(inserted("outbox", CANCEL_EVENT)),
    "two contents of order.processed": _theirs(inserted("outbox", _ANSWER)),
    "order.processed was seen with two contents": _seen("2", status="failed"),
    "event left the outbox and was never published": _theirs(deleted("outbox", _UNSEEN)),
    "poison is not among the dead letters": lambda run: run.dead.clear(),
    "dead letter that was no poison": lambda run: run.dead.append(("order.created", b"{}")),
    "dead letter twice": lambda run: run.dead.append(POISON),
    # the services themselves
    "a service ended by itself": lambda run: setattr(run, "ended", Counter({"exit 1": 1})),
    "memory did not return to their level": _after(megabytes=300.0),
    "broker connections did not return to their level": _after(broker_connections=6),
    "database connections did not return to their level": _after(database_connections=17),
    "open files did not return to their level": _after(files=90),
}


@pytest.mark.parametrize("rule", SPOILT)
def test_a_violation_is_found(rule: str) -> None:
    run = sound_run()
    SPOILT[rule](run)
    assert rule in {violation.rule for violation in violations(run)}


@pytest.mark.parametrize("status", ["done", "pending"])
def test_an_order_that_was_answered_as_cancelled_and_is_not_is_found(status: str) -> None:
    run = sound_run()
    run.orders["x"].update(status=status)
    rules = {violation.rule for violation in violations(run)}
    assert "cancellation answered otherwise than it is stored" in rules


def test_a_cancellation_without_its_event_is_found() -> None:
    run = sound_run()
    run.order_changes = [change for change in run.order_changes if change.new != CANCEL_EVENT]
    assert {violation.rule for violation in violations(run)} == {"cancellations and their events differ"}


def test_a_cancelled_order_may_have_been_decided() -> None:
    run = sound_run()
    run.states["x"] = {**STATE, "order_id": "x"}
    assert violations(run) == []


def test_a_broker_that_was_made_to_lose_messages_may_lose_poison_too() -> None:
    run = sound_run()
    run.dead.clear()
    run.loses_messages = True
    assert violations(run) == []


def test_unknown_fields_are_no_second_content() -> None:
    run = sound_run()
    _seen("2", discount=3)(run)
    assert violations(run) == []


def test_a_look_that_overlaps_the_change_may_show_either_state() -> None:
    run = sound_run()
    _answers(answered(200, content=None, order=PENDING, asked_at=9.5))(run)
    assert violations(run) == []
