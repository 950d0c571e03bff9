"""How a replay goes on: in steps of 1, 10, 100, 100, … letters, each judged before the next begins."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

STEP_LETTERS_MAX = 100
_SLICES_PER_SECOND = 10
_WAIT_SECONDS_MIN, _WAIT_SECONDS_MAX = 0.05, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a replay is. `waiting` are letters not handed over yet, `in_flight` those whose outcome is open.

    The fields `step_…` are of the present step: how many letters it may take, took, of how many the outcome
    is known, and how many of these failed. `idle_seconds`: since something last changed.
    """

    state: str
    total: int
    handled: int
    skipped: int
    failed: int
    in_flight: int
    step: int
    step_size: int
    step_taken: int
    step_ended: int
    step_failed: int
    per_second: float
    failure_share_max: float
    idle_seconds: float = 0.0

    @property
    def waiting(self) -> int:
        return self.total - self.handled - self.skipped - self.failed - self.in_flight

    def after(self, outcomes: Iterable[tuple[str, int]]) -> "Progress":
        """With the outcomes (handled, skipped or failed, and of which step) that have become known."""
        now = self
        for outcome, step in outcomes:
            now = replace(
                now,
                handled=now.handled + (outcome == "handled"),
                skipped=now.skipped + (outcome == "skipped"),
                failed=now.failed + (outcome == "failed"),
                in_flight=now.in_flight - 1,
                step_ended=now.step_ended + (step == now.step),
                step_failed=now.step_failed + (step == now.step and outcome == "failed"),
                idle_seconds=0.0,
            )
        return now

    def handed_over(self, count: int) -> "Progress":
        """With `count` letters more in flight."""
        return replace(self, in_flight=self.in_flight + count, step_taken=self.step_taken + count)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand `count` letters over; the next ones may follow after `pause_seconds`."""

    count: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `seconds`; None: there is nothing to wait for until an operator does something."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Finish: ...


@dataclass(frozen=True, slots=True)
class Stop:
    because: str


Move = HandOver | Wait | Finish | Stop


def next_move(progress: Progress) -> tuple[Progress, Move]:
    """What to do next, and where the replay then is: maybe in a new step."""
    if progress.state != "running":
        return progress, Wait(_patience(progress) if progress.in_flight else None)
    if because := _failed_too_often(progress):
        return replace(progress, state="stopped"), Stop(because)
    if progress.waiting and progress.step_ended == progress.step_taken == progress.step_size:
        progress = _next_step(progress)
    room = min(progress.waiting, progress.step_size - progress.step_taken)
    if room:
        count = min(room, max(1, ceil(progress.per_second / _SLICES_PER_SECOND)))
        return progress, HandOver(count, count / progress.per_second)
    if progress.waiting or progress.in_flight:
        return progress, Wait(_patience(progress))
    return replace(progress, state="finished"), Finish()


def _failed_too_often(progress: Progress) -> str | None:
    """As soon as it is certain, also before the step is through."""
    letters = min(progress.step_size, progress.step_taken + progress.waiting)
    if progress.step_failed <= progress.failure_share_max * letters:
        return None
    share = f"{progress.failure_share_max:.0%}"
    return f"{progress.step_failed} of {letters} letters of step {progress.step} failed: more than {share}"


def _next_step(progress: Progress) -> Progress:
    size = min(STEP_LETTERS_MAX, progress.step_size * 10)
    return replace(
        progress, step=progress.step + 1, step_size=size, step_taken=0, step_ended=0, step_failed=0
    )


def _patience(progress: Progress) -> float:
    """Longer the longer nothing has changed: outcomes mostly come at once, and in an outage not for hours."""
    return min(_WAIT_SECONDS_MAX, max(_WAIT_SECONDS_MIN, progress.idle_seconds / 4))
