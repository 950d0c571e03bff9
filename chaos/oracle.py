"""Judges a run: an empty list means that all that is promised held."""

from chaos.judges import answers, effects, messages, resources
from chaos.observed import Observed
from chaos.violations import Violation

JUDGES = (answers.judge, effects.judge, messages.judge, resources.judge)


def violations(observed: Observed) -> list[Violation]:
    """All that did not hold, by each judge's rules."""
    return [violation for judge in JUDGES for violation in judge(observed)]
