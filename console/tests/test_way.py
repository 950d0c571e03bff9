import msgspec

from order_console.testing.fake_services import ORDER, TIMELINE
from order_console.way import STEPS, Found, duration, way
from order_processor_client.models import Timeline


def timeline(steps: list[tuple[str, str | None]], *, status: str = "pending") -> Timeline:
    given = [{"step": name, "at": at and f"2026-11-24T14:00:{at}Z"} for name, at in steps]
    return msgspec.convert({**TIMELINE, "steps": given, "order": ORDER | {"status": status}}, Timeline)


def test_a_whole_way_is_shown_as_it_is() -> None:
    stages = way(timeline([(name, f"{number:02}") for number, name in enumerate(STEPS)], status="done"))

    assert [stage.name for stage in stages] == list(STEPS)
    assert all(stage.found is Found.KNOWN for stage in stages)
    assert [stage.took and stage.took.total_seconds() for stage in stages] == [None, *[1.0] * 7]


def test_what_lies_ahead_is_shown_too() -> None:
    stages = way(timeline([("accepted", "00"), ("committed", "00.004")]))

    assert [stage.name for stage in stages] == list(STEPS)
    assert [stage.found for stage in stages[2:]] == [Found.AHEAD] * 6


def test_what_nobody_remembers_stands_where_it_happened() -> None:
    stages = way(timeline([("accepted", "00"), ("decided", "05"), ("applied", "06")], status="done"))

    assert [stage.name for stage in stages] == list(STEPS)
    unknown = {stage.name for stage in stages if stage.found is Found.UNKNOWN}
    assert unknown == {"committed", "published", "confirmed", "received", "answered"}


def test_time_is_counted_over_what_is_missing() -> None:
    steps = [("accepted", "00"), ("committed", None), ("decided", "05"), ("applied", "06")]
    whole = timeline(steps, status="done")

    stages = way(whole)

    took = {stage.name: stage.took.total_seconds() for stage in stages if stage.took}
    assert took == {"decided": 5.0, "applied": 1.0}
    total = duration(whole, stages)
    assert total and total.total_seconds() == 6.0


def test_of_an_order_that_is_under_way_there_is_no_duration_and_of_clocks_that_differ_none_either() -> None:
    whole = timeline([("accepted", "05"), ("committed", "04"), ("published", "06")])

    stages = way(whole)

    assert duration(whole, stages) is None
    assert [stage.took and stage.took.total_seconds() for stage in stages[:3]] == [None, None, 2.0]


def test_a_dead_letter_stands_after_what_led_to_it_and_before_what_is_to_come() -> None:
    stages = way(
        timeline(
            [
                ("accepted", "00"),
                ("committed", "01"),
                ("published", "02"),
                ("confirmed", "03"),
                ("dead_letter", "04"),
            ]
        )
    )

    assert [stage.name for stage in stages][3:6] == ["confirmed", "dead_letter", "received"]
    assert stages[4].title == "Set aside" and stages[5].found is Found.AHEAD


def test_a_step_of_a_newer_service_is_shown_by_its_name() -> None:
    [stage, *_] = way(timeline([("frozen", "00")]))

    assert (stage.name, stage.title, stage.words) == ("frozen", "Frozen", "")
