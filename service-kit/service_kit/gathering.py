"""Larger batches under load: what a batch costs is for a good part its round trips, whatever is in it."""

_CROWD = 16
_QUICK_SECONDS = 0.01
_SECONDS_MAX = 0.03


def gathering_seconds(found: int, *, enough: int, took_seconds: float) -> float:
    """How long to wait before the next batch, after one of `found` messages or rows that took so long.

    A lone one waits for nobody, and a full batch shows a backlog, which is worked off without a pause. In
    between the wait grows with the time that the work took, which is short unless the machine is busy: the
    next batch is larger then, and costs little more.
    """
    if not _CROWD <= found < enough:
        return 0.0
    return min(max(0.0, took_seconds - _QUICK_SECONDS), _SECONDS_MAX)
