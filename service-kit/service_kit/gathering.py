"""Larger batches under load: what a batch costs is for a good part its round trips, whatever is in it."""

_MANY = 16
_SECONDS_MAX = 0.03


def gathering_seconds(found: int, *, enough: int, took_seconds: float) -> float:
    """How long to wait before the next batch, after one of `found` pieces that took so long.

    Nothing unless there is a crowd, and nothing when the batch was full: a lone event waits for nobody, and
    a backlog is worked off without a pause. In between the wait is as long as the work was, 30 ms at most:
    the next batch is twice as large, and costs little more.
    """
    return min(took_seconds, _SECONDS_MAX) if _MANY <= found < enough else 0.0
