"""Points in the code at which a test may have the process kill itself; otherwise passing one does nothing."""

import os
import signal
from collections.abc import Mapping

import structlog

from service_kit.errors import StartupError

VARIABLE = "FAILPOINT"

log = structlog.stdlib.get_logger()

_passages_left: dict[str, int] = {}


def arm(environ: Mapping[str, str]) -> None:
    """`FAILPOINT=relay.confirmed:3` kills this process, as SIGKILL does, at the third passage of that point.

    Does nothing when it is not set. Raises StartupError for anything else in it.
    """
    _passages_left.clear()
    if not (text := environ.get(VARIABLE, "").strip()):
        return
    name, _, passages = text.partition(":")
    if not name or not passages.isdecimal() or int(passages) == 0:
        raise StartupError(f"{VARIABLE}={text[:80]!r} is not valid; allowed: name:passages", exit_code=2)
    _passages_left[name] = int(passages)
    log.warning("failpoint_armed", failpoint=name, passages=int(passages))


def passed(name: str) -> None:
    """The point `name` was reached."""
    if name in _passages_left:
        _passages_left[name] -= 1
        if _passages_left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
