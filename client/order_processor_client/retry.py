"""When a request is sent again, and after what pause."""

import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from order_processor_client.errors import ClientError, ProblemError, Unreachable

_FIRST_SECONDS, _MAX_SECONDS = 0.1, 5.0
NOT_NOW = frozenset({429, 502, 503, 504})
"""Answers that may be others a little later; those but 429 and 503 are of proxies."""

_POLL_FIRST_SECONDS, _POLL_MAX_SECONDS = 0.02, 1.0


class Attempts:
    """The attempts to get one request through, until `within_seconds` after the first.

    The pauses are 0.1, 0.2, 0.4 … 5 seconds, each shortened by chance to as little as half, and never shorter
    than a `Retry-After`.
    """

    def __init__(self, *, repeatable: bool, within_seconds: float) -> None:
        self._repeatable = repeatable
        self._until = time.monotonic() + within_seconds
        self._pause_seconds = _FIRST_SECONDS

    def pause_after(self, failure: ClientError) -> float:
        """How many seconds to wait before the next attempt. Raises `failure` when there is none."""
        if not self._repeatable or not _may_pass(failure):
            raise failure
        pause = self._pause_seconds * random.uniform(0.5, 1.0)
        self._pause_seconds = min(self._pause_seconds * 2, _MAX_SECONDS)
        if isinstance(failure, ProblemError) and failure.retry_after:
            pause += failure.retry_after
        if time.monotonic() + pause > self._until:
            raise failure
        return pause


def retry_after_seconds(header: str | None) -> float | None:
    """The header holds seconds or a date; None when it is missing or neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def poll_pauses(within_seconds: float | None) -> Iterator[float]:
    """The pauses after each look at something that will change, a last look when the time is over.

    None: for ever.
    """
    until = math.inf if within_seconds is None else time.monotonic() + within_seconds
    pause, left = _POLL_FIRST_SECONDS, math.inf
    while left > 0:
        left = until - time.monotonic()
        yield max(0.0, min(pause, left))
        pause = min(pause * 1.5, _POLL_MAX_SECONDS)


def _may_pass(failure: ClientError) -> bool:
    match failure:
        case Unreachable():
            return True
        case ProblemError():
            return failure.status in NOT_NOW
        case _:
            return False
