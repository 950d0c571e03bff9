"""Ctrl-C while a program still loads itself is no defect of it, and so no traceback."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

_INTERRUPTED = 130


def start(module: str) -> None:
    """Load `module` and run its `cli`. Until it is loaded, SIGINT ends the process quietly with 130."""
    with quiet_interrupt():
        command = import_module(module).cli
    command()


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """For imports alone: nothing is cleaned up."""
    previous = signal.signal(signal.SIGINT, _leave)
    yield
    signal.signal(signal.SIGINT, previous)


def _leave(_: int, __: FrameType | None) -> None:
    os._exit(_INTERRUPTED)
