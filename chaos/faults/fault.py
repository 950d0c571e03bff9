"""What a fault is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from chaos.setup import Setup
from chaos.stage import Stage

Inject = Callable[[Stage, Random], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`inject` does it once and undoes it; what it sees of the effect it counts in the stage's evidence.

    `bites` names evidence: unless all of it was seen, the run proves nothing. `story` is a line for readers.
    `pause_seconds`: about how long after the one the next comes.
    """

    name: str
    story: str
    inject: Inject
    bites: tuple[str, ...]
    setup: Setup = field(default_factory=Setup)
    pause_seconds: float = 2.0
