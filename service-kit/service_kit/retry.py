"""When to try again. Standard library only; randomness is handed in."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that double up to a maximum, each spread by `jitter` (0.2 means ±20 %), in seconds."""

    first_seconds: float = 1.0
    max_seconds: float = 300.0
    factor: float = 2.0
    jitter: float = 0.2

    def delay_seconds(self, attempt: int, random: Random) -> float:
        """The pause after failed attempt number `attempt`, counted from 1."""
        # The exponent is capped so that a very large attempt number cannot overflow a float.
        plain = min(self.max_seconds, self.first_seconds * self.factor ** min(attempt - 1, 64))
        return plain * random.uniform(1 - self.jitter, 1 + self.jitter)

    def __str__(self) -> str:
        schedule = [self.first_seconds * self.factor**n for n in range(12)]
        shown = ", ".join(f"{min(delay, self.max_seconds):g}" for delay in schedule)
        return f"{shown}, … s (±{self.jitter:.0%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a message that failed by its own fault is tried again before it is set aside.

    The defaults give ten attempts, about 1, 2, 4, 8, 16, 32, 64, 128 and 256 seconds apart: eight and a half
    minutes in all. An outage is not an attempt and is not counted here.
    """

    attempts_max: int = 10
    backoff: Backoff = Backoff()

    def delay_seconds(self, attempt: int, random: Random) -> float | None:
        """The pause after failed attempt number `attempt`, or None when it was the last."""
        return self.backoff.delay_seconds(attempt, random) if attempt < self.attempts_max else None


OUTAGE_BACKOFF = Backoff(first_seconds=0.1, max_seconds=5.0)
"""Between looks at a server that does not answer."""


def pauses(backoff: Backoff, random: Random) -> Iterator[float]:
    """The endless sequence of a backoff's delays, in seconds."""
    attempt = 0
    while True:
        attempt += 1
        yield backoff.delay_seconds(attempt, random)
