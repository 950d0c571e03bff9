import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service_kit.observability.line_limit import LINES_MAX
from service_kit.observability.logs import configure_logs

log = structlog.stdlib.get_logger()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a program prints after `configure_logs`; everything is as before at the end of the test."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    configure_logs("INFO", "order-service", stream=stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_event_service_and_fields(stream: io.StringIO) -> None:
    log.warning("batch_waiting", reason="database: gone", attempt=2)

    [line] = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "service", "reason", "attempt"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["service"]) == ("warning", "batch_waiting", "order-service")
    assert (line["reason"], line["attempt"]) == ("database: gone", 2)


def test_lines_of_libraries_have_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Running on %s", "::1", extra={"color_message": "\x1b[1m"})
    logging.getLogger("alembic.runtime.migration").info("Running upgrade %s -> %s", "1", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    first, second, third = lines(stream)
    assert list(first) == list(second) == ["timestamp", "level", "event", "service", "logger"]
    assert [line["logger"] for line in (first, second, third)] == [
        "uvicorn.error",
        "alembic.runtime.migration",
        "py.warnings",
    ]
    assert (first["event"], second["event"]) == ("Running on ::1", "Running upgrade 1 -> 2")
    assert "DeprecationWarning: old" in third["event"]


def test_the_bound_service_and_ids_are_on_every_line(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(service="processor-service", order_id="o-1"):
        log.info("order_decided")
        logging.getLogger("asyncio").warning("slow callback")

    assert [(line["service"], line["order_id"]) for line in lines(stream)] == [
        ("processor-service", "o-1")
    ] * 2


def test_an_exception_is_a_field_without_the_values_of_variables(stream: io.StringIO) -> None:
    password = "hunter2"
    try:
        try:
            raise ValueError(len(password))
        except ValueError as cause:
            raise ConnectionError("refused") from cause
    except ConnectionError as error:
        log.error("relay_failed", exc_info=error)
        logging.getLogger("asyncio").error("Task exception", exc_info=error)

    ours, theirs = lines(stream)
    assert [part["exc_type"] for part in ours["exception"]] == ["ConnectionError", "ValueError"]
    assert ours["exception"][0]["frames"][0]["name"].startswith("test_an_exception")
    assert theirs["exception"] == ours["exception"]
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize(
    "value", ["\ud800", b"\xff", {1, 2}, {(1, 2): 3}, float("nan"), 10**30, object(), ValueError("x"), None]
)
def test_no_value_can_cost_a_line(stream: io.StringIO, value: object) -> None:
    log.info("strange", value=value)

    assert [line["event"] for line in lines(stream)] == ["strange"]


def test_a_level_is_a_threshold_for_all(stream: io.StringIO) -> None:
    log.debug("hidden")
    logging.getLogger("asyncio").debug("hidden")
    logging.getLogger("httpx").info("hidden")

    assert stream.getvalue() == ""


def test_the_volume_does_not_grow_with_the_load(stream: io.StringIO) -> None:
    for number in range(1_000):
        log.warning("event_set_aside", event_key=f"order.created:{number}:1")
        logging.getLogger("asyncio").warning("task %d is slow", number)

    ours, theirs = (
        [line for line in lines(stream) if ("logger" in line) is library] for library in (False, True)
    )
    assert len(ours) == len(theirs) == LINES_MAX
    assert "more_suppressed_for_seconds" in ours[-1]
    assert "more_suppressed_for_seconds" in theirs[-1]


def test_configuring_again_writes_each_line_once(stream: io.StringIO) -> None:
    configure_logs("ERROR", "other", stream=stream)

    log.warning("hidden")
    log.error("shown")

    assert [(line["event"], line["service"]) for line in lines(stream)] == [("shown", "other")]


def test_on_a_terminal_a_line_is_readable_and_cannot_command_it(stream: io.StringIO) -> None:
    terminal = Terminal()
    configure_logs("INFO", "order-service", stream=terminal)

    log.info("event_set_aside", reason="\x1b]0;owned\x07")

    assert "event_set_aside" in terminal.getvalue()
    assert "\x1b]0" not in terminal.getvalue()


def test_stdout_is_where_lines_go_unless_said_otherwise(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("INFO", "order-service")

    log.info("hello")

    assert json.loads(capsys.readouterr().out)["event"] == "hello"
    assert sys.stdout is not stream


class GoneReader(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_costs_nothing_but_the_line(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("INFO", "order-service", stream=GoneReader())

    log.info("service_ready")

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("limited", "lines"), [(True, 20), (False, 50)])
def test_a_command_tells_of_all_that_it_does_and_a_service_is_cut_short(limited: bool, lines: int) -> None:
    stream = io.StringIO()
    configure_logs("INFO", "order-service", stream=stream, limited=limited)
    for number in range(50):
        structlog.get_logger().info("dead_letter_discarded", id=number)
    assert len(stream.getvalue().splitlines()) == lines
