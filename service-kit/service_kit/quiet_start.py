"""Ctrl-C while a program still loads itself is no defect of it, and so no traceback."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def start(load: Callable[[], Callable[[], NoReturn]]) -> NoReturn:
    """Load a command line and run it. Until it is loaded, SIGINT ends the process quietly with 130."""
    previous = signal.signal(signal.SIGINT, _leave)
    command = load()
    signal.signal(signal.SIGINT, previous)
    command()


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(_INTERRUPTED)
