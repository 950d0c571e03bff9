"""The services' log: part of the trace, or nothing at all."""

import logging
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from simulation.loop import OWNER
from simulation.trace import Trace


def quiet_logs() -> None:
    structlog.configure(
        processors=[_dropped],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )


def traced_logs(trace: Trace, clock: Callable[[], float]) -> None:
    def into_trace(_: WrappedLogger, level: str, event: EventDict) -> EventDict:
        owner = OWNER.get()
        trace.add(clock(), owner.name if owner else "?", f"{level} {_line(event)}")
        raise structlog.DropEvent

    structlog.configure(processors=[into_trace], wrapper_class=structlog.make_filtering_bound_logger(0))


def _line(event: EventDict) -> str:
    name = event.pop("event")
    error = event.pop("exc_info", None)
    fields: dict[str, Any] = {**event, **({"error": repr(error)} if error else {})}
    return " ".join([str(name), *(f"{key}={value}" for key, value in fields.items())])


def _dropped(_: WrappedLogger, __: str, ___: EventDict) -> EventDict:
    raise structlog.DropEvent
