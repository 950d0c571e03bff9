import logging

import pytest

from service_kit.observability.line_limit import LineLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """What passes the limit, of our lines (`event`) and of those of a library (`text`)."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limit = LineLimit(lines_max=3, window_seconds=10, clock=self.clock)
        self.passed: list[logging.LogRecord] = []

    def event(self, name: str, level: int = logging.WARNING) -> None:
        self._pass(logging.LogRecord("kit", level, "file", 1, {"event": name}, (), None))

    def text(self, logger: str, text: str, *values: object) -> None:
        self._pass(logging.LogRecord(logger, logging.WARNING, "file", 1, text, values, None))

    def _pass(self, record: logging.LogRecord) -> None:
        if self.limit.filter(record):
            self.passed.append(record)

    def fields(self) -> list[object]:
        return [record.msg for record in self.passed]


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_last_line_that_passes_says_that_more_are_suppressed(log: Log) -> None:
    for _ in range(100):
        log.event("event_set_aside")

    assert log.fields() == [
        {"event": "event_set_aside"},
        {"event": "event_set_aside"},
        {"event": "event_set_aside", "more_suppressed_for_seconds": 10.0},
    ]


def test_the_next_window_says_how_many_were_left_out(log: Log) -> None:
    for _ in range(100):
        log.event("event_set_aside")
    log.passed.clear()
    log.clock.now += 10

    log.event("event_set_aside")
    log.event("event_set_aside")

    assert log.fields() == [
        {"event": "event_set_aside", "suppressed_lines": 97},
        {"event": "event_set_aside"},
    ]


def test_one_event_takes_nothing_from_another(log: Log) -> None:
    for _ in range(100):
        log.event("event_set_aside")
    log.passed.clear()

    log.event("broker_lost")

    assert log.fields() == [{"event": "broker_lost"}]


def test_lines_of_libraries_are_told_apart_by_their_text_without_its_values(log: Log) -> None:
    for number in range(100):
        log.text("asyncio", "task %d is slow", number)
    log.text("asyncio", "something else")

    assert len(log.passed) == 4
    assert log.passed[2].__dict__["more_suppressed_for_seconds"] == 10.0


def test_what_ends_a_process_always_passes(log: Log) -> None:
    for _ in range(100):
        log.event("background_service_died", logging.CRITICAL)

    assert len(log.passed) == 100


def test_memory_is_bounded_whatever_is_logged(log: Log) -> None:
    for number in range(5000):
        log.event(f"event_{number}")

    assert len(log.limit._windows) <= 1000
