"""The W3C trace context that goes with every event (https://www.w3.org/TR/trace-context/)."""

import re
from random import Random
from typing import TypeGuard

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ODD = frozenset("13579bdf")


def trace_id(traceparent: object) -> str | None:
    """The trace that a valid `traceparent` belongs to."""
    if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent):
        return None
    return traceparent[3:35]


def is_sampled(traceparent: str | None) -> TypeGuard[str]:
    """Whether a valid `traceparent` says that its trace is recorded; cheap when it does not."""
    # The flag is the lowest bit, and most traces have it not.
    return (
        traceparent is not None
        and traceparent[-1:] in _ODD
        and _TRACEPARENT.fullmatch(traceparent) is not None
    )


def continued_trace(traceparent: str | None, random: Random) -> str:
    """A traceparent for what follows from `traceparent`: the same trace, or a new one if there is none valid.

    The span id is new. A new trace is marked as not sampled.
    """
    span = f"{random.getrandbits(64) or 1:016x}"
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return f"{traceparent[:36]}{span}{traceparent[52:]}"
    return f"00-{random.getrandbits(128) or 1:032x}-{span}-00"
