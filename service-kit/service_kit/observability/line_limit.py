"""A bound on how often one event is logged, so that the volume of logs does not grow with the load."""

import logging
import time
from collections.abc import Callable

LINES_MAX = 20
WINDOW_SECONDS = 10.0


class LineLimit(logging.Filter):
    """Lets `lines_max` lines of an event pass in each `window_seconds`; the metrics count what is not told.

    The last of them says so (`more_suppressed_for_seconds`), and the first of a later window says how many
    were left out (`suppressed_lines`). Lines of libraries are told apart by logger and unformatted text. What
    ends a process is never left out.
    """

    def __init__(
        self,
        *,
        lines_max: int = LINES_MAX,
        window_seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._window_seconds = window_seconds
        self._clock = clock
        # Event names are constant, and so are the texts of libraries; the bound is for those that are not.
        self._windows: dict[str, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        now, name = self._clock(), _name(record)
        window = self._windows.get(name)
        if window is None or now - window.began_at >= self._window_seconds:
            suppressed = max(0, window.lines - self._lines_max) if window else 0
            self._forget_old_ones(now)
            self._windows[name] = window = _Window(now)
            if suppressed:
                _add(record, "suppressed_lines", suppressed)
        window.lines += 1
        if window.lines == self._lines_max:
            left_seconds = window.began_at + self._window_seconds - now
            _add(record, "more_suppressed_for_seconds", round(left_seconds, 1))
        return window.lines <= self._lines_max

    def _forget_old_ones(self, now: float) -> None:
        if len(self._windows) < 1000:
            return
        ended = [
            name for name, window in self._windows.items() if now - window.began_at > self._window_seconds
        ]
        for name in ended or list(self._windows):
            del self._windows[name]


class _Window:
    __slots__ = ("began_at", "lines")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.lines = 0


def _name(record: logging.LogRecord) -> str:
    """Ours come as a dict with the event's name, those of libraries as a text with places for values."""
    return str(record.msg["event"]) if isinstance(record.msg, dict) else f"{record.name} {record.msg}"


def _add(record: logging.LogRecord, name: str, value: float) -> None:
    if isinstance(record.msg, dict):
        record.msg[name] = value
    else:
        record.__dict__[name] = value
