import io
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from service_kit.observability.logs import configure_logs
from service_kit.tracing.export import REMINDER_SECONDS, ToldExporter

SPANS = [ReadableSpan("one"), ReadableSpan("two")]


class Collector(SpanExporter):
    """An exporter that says much when it fails, as the SDK's does."""

    def __init__(self) -> None:
        self.up = False
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.up:
            return SpanExportResult.SUCCESS
        logging.getLogger(__name__).warning("Transient error %s", "connection\nrefused")
        logging.getLogger(__name__).error("Failed to export, whatever")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.shutdowns += 1


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged; everything is as before at the end of the test."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    configure_logs("INFO", "another-service", stream=stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_collector_that_is_away_is_told_of_once_a_minute_and_once_when_it_is_back(
    stream: io.StringIO,
) -> None:
    collector, clock = Collector(), Clock()
    exporter = ToldExporter(collector, "order-service", clock=clock)

    for seconds in (0.0, 1.0, REMINDER_SECONDS - 2, 1.0):
        clock.seconds += seconds
        assert exporter.export(SPANS) is SpanExportResult.FAILURE
        assert exporter.failing
    collector.up = True
    for _ in range(2):
        assert exporter.export(SPANS) is SpanExportResult.SUCCESS
        assert not exporter.failing

    first, second, again = lines(stream)
    for line, lost in ((first, 2), (second, 8)):
        assert (line["level"], line["event"]) == ("warning", "traces_not_exported")
        assert (line["service"], line["spans_lost"]) == ("order-service", lost)
        assert line["reason"] == "Transient error connection refused"
    assert (again["level"], again["event"], again["spans_lost"]) == ("info", "traces_exported_again", 8)


def test_after_the_shutdown_nothing_more_is_told(stream: io.StringIO) -> None:
    collector = Collector()
    exporter = ToldExporter(collector, "order-service")
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(SPANS) is SpanExportResult.FAILURE
    assert collector.shutdowns == 1
    assert lines(stream) == []
