from typing import Any

import msgspec

from order_console.testing.fake_services import STATE
from order_console.verdict import verdicts
from order_console.view import Pace, Snapshot, View
from order_processor_client.admin_models import ServiceState
from order_processor_client.request import Service


def view(**changes: Any) -> View:
    given: dict[str, Any] = {**STATE, "backlog": {"dead_letters": 0}}
    return View(state=msgspec.convert(given | changes, ServiceState))


def told(order: View, processor: View, pace: Pace = Pace()) -> list[tuple[str, str]]:  # noqa: B008
    snapshot = Snapshot(views={Service.ORDER: order, Service.PROCESSOR: processor}, pace=pace)
    return [(verdict.tone, verdict.words) for verdict in verdicts(snapshot)]


def test_all_is_well_when_nothing_is_the_matter() -> None:
    assert told(view(), view(), Pace(accepted=3.0)) == [("good", "All is well: orders flow.")]
    assert told(view(), view()) == [("good", "All is well. No orders just now.")]


def test_before_the_first_look_nothing_is_claimed() -> None:
    [verdict] = verdicts(Snapshot())

    assert verdict.tone == "none"


def test_the_worst_comes_first() -> None:
    waiting = view(backlog={"dead_letters": 1})
    paused = view(consuming={"paused": True, "by": "Anna", "reason": "deploying"})
    away = View(problem="does not answer (refused)")

    assert told(waiting, away) == [
        ("bad", "processor-service does not answer (refused). What it would tell is missing here."),
        ("warn", "order-service: 1 dead letter waits for an operator."),
    ]
    assert told(paused, view()) == [("warn", "order-service is paused by Anna: deploying")]


def test_a_dependency_that_fails_is_named() -> None:
    broken = view(checks={"broker": {"ok": False, "detail": "not connected"}, "database": {"ok": True}})

    assert told(view(), broken) == [("bad", "processor-service is not well: broker: not connected")]
