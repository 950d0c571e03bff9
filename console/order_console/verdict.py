"""The state of everything in one sentence: the worst first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from order_console.services import NAMES
from order_console.view import Snapshot, View

Tone = Literal["good", "warn", "bad", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    tone: Tone
    words: str
    place: str | None = None
    """Where more is to be seen."""


def verdicts(snapshot: Snapshot) -> list[Verdict]:
    """Everything that somebody should know, the worst first; never nothing."""
    if not snapshot.views:
        return [Verdict(tone="none", words="The services have not been asked yet.")]
    found = [
        verdict for service, view in snapshot.views.items() for verdict in _of_service(NAMES[service], view)
    ]
    found.sort(key=lambda verdict: verdict.tone != "bad")
    return found or [Verdict(tone="good", words=_all_well(snapshot))]


def _of_service(name: str, view: View) -> Iterator[Verdict]:
    if view.state is None:
        problem = (view.problem or "is away").rstrip(".")
        yield Verdict(tone="bad", words=f"{name} {problem}. What it would tell is missing here.")
        return
    for check, result in view.state.checks.items():
        if not result.ok:
            yield Verdict(tone="bad", words=f"{name} is not well: {check}: {result.detail}")
    consuming = view.state.consuming
    if consuming.paused:
        who = f" by {consuming.by}" if consuming.by else ""
        words = f"{name} is paused{who}: {consuming.reason or 'no reason was given'}"
        yield Verdict(tone="warn", words=words, place="/services")
    if letters := view.state.backlog.dead_letters:
        words = "1 dead letter waits" if letters == 1 else f"{letters:,} dead letters wait"
        yield Verdict(tone="warn", words=f"{name}: {words} for an operator.", place="/dead-letters")


def _all_well(snapshot: Snapshot) -> str:
    return "All is well: orders flow." if snapshot.pace.accepted else "All is well. No orders just now."
