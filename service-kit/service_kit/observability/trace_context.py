"""The W3C trace context that goes with every event (https://www.w3.org/TR/trace-context/)."""

import re
from random import Random

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(traceparent: object) -> str | None:
    """The trace that a valid `traceparent` belongs to."""
    if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent):
        return None
    return traceparent[3:35]


def continued_trace(traceparent: str | None, random: Random) -> str:
    """A traceparent for what follows from `traceparent`: the same trace, or a new one if there is none valid.

    The span id is new. A new trace is marked as not sampled.
    """
    span = f"{random.getrandbits(64) or 1:016x}"
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return f"{traceparent[:36]}{span}{traceparent[52:]}"
    return f"00-{random.getrandbits(128) or 1:032x}-{span}-00"
