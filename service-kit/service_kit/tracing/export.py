"""Exporting spans, told of in few lines: a collector that is away is no concern of the orders."""

import logging
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

REMINDER_SECONDS = 60.0
_REASON_MAX = 300

log = structlog.stdlib.get_logger()


class ToldExporter(SpanExporter):
    """Exports by `exporter`. While that fails there is a warning a minute, and a line when it is over.

    `failing` says how the last export went. The SDK calls it in a thread of its own.
    """

    def __init__(
        self, exporter: SpanExporter, service: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        logging.getLogger(type(exporter).__module__).addFilter(_overhear)
        self._exporter = exporter
        self._log = log.bind(service=service)
        self._clock = clock
        self._remind_at = clock()
        self._lost = 0
        self._stopped = False
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _reason.set("")
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._failed(len(spans))
        elif self.failing:
            self.failing = False
            self._log.info("traces_exported_again", spans_lost=self._lost)
            self._remind_at, self._lost = self._clock(), 0
        return result

    def shutdown(self) -> None:
        """Safe twice. Cuts short what is being tried again."""
        if not self._stopped:
            self._stopped = True
            self._exporter.shutdown()

    def _failed(self, spans: int) -> None:
        self.failing = True
        self._lost += spans
        if self._clock() >= self._remind_at and not self._stopped:
            self._remind_at = self._clock() + REMINDER_SECONDS
            self._log.warning("traces_not_exported", spans_lost=self._lost, reason=_reason.get())


_reason: ContextVar[str] = ContextVar("reason", default="")


def _overhear(record: logging.LogRecord) -> bool:
    """Keep from the log what the SDK says of an export, several lines each time; the first has the reason."""
    if not _reason.get():
        _reason.set(" ".join(record.getMessage().split())[:_REASON_MAX])
    return False
