"""Logs in one form: JSON lines on stdout, or readable colours on a terminal.

Lines of libraries (uvicorn, asyncio, alembic, warnings) come through `logging` and get the same form.
"""

import json
import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service_kit.observability.line_limit import LineLimit

# At INFO these would write a line for each connection or request.
_TALKATIVE = ("uvicorn.access", "httpx", "httpcore", "aiormq", "aio_pika")
_OURS = "service_kit.configure_logs"


def configure_logs(
    level: str, service_name: str, *, stream: TextIO | None = None, limited: bool = True
) -> None:
    """Send all logs from `level` up to `stream` (stdout). May be repeated: the last call counts.

    `service_name` is on every line that has no `service` bound (`structlog.contextvars`), as each service of
    a process that holds several has. `limited`: an event that comes too often is cut short (see LineLimit).
    """
    output = stream or sys.stdout
    shared = _shared(service_name)
    handler = _Handler(output)
    handler.set_name(_OURS)
    if limited:
        handler.addFilter(LineLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=_last(output.isatty()), foreign_pre_chain=[*shared, _which_library]
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if other.get_name() != _OURS] + [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Drops a line that cannot be written, as when its reader is gone or the disk full: orders go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's own name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _shared(service_name: str) -> list[Processor]:
    """What is done to our lines and to those of libraries alike."""

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service_name)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _one_line_event,
    ]


def _last(on_a_terminal: bool) -> Sequence[Processor]:
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    # Tracebacks never show locals: they hold passwords.
    if on_a_terminal:
        console = structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback,
            repr_native_str=True,  # escapes what a terminal would take for a command
        )
        return [drop_meta, console]
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
    return [drop_meta, structlog.processors.ExceptionRenderer(tracebacks), _as_json_line]


def _which_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Lines of libraries are prose: who wrote them is what can be filtered by."""
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    for name in ("suppressed_lines", "more_suppressed_for_seconds"):
        if name in record.__dict__:
            event[name] = record.__dict__[name]
    return event


def _one_line_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["event"] = str(event.get("event", "")).strip().encode("utf-8", "backslashreplace").decode()
    return event


def _as_json_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    first = ("timestamp", "level", "event", "service")
    ordered = {name: event.pop(name, None) for name in first} | dict(event)
    try:
        return msgspec.json.encode(ordered, enc_hook=repr).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # A lone surrogate or a strange key must not cost the line.
        return json.dumps(
            {str(name): value if _plain(value) else repr(value) for name, value in ordered.items()}
        )


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int)
