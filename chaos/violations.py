"""What a run may show that must never be."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    WRONG = "wrong"
    """Anything else that was promised and did not hold."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`rule` is a stable word, `subject` what broke it."""

    kind: Kind
    rule: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.rule}: {self.subject}" + (
            f" ({self.detail})" if self.detail else ""
        )
