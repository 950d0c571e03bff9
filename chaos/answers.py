"""What was asked of order-service and what it answered, as the client saw it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`content` names what was posted (None: it was a GET, or `cancels`). Times are by the client's clock."""

    order_id: str
    content: str | None
    status: int
    replayed: bool
    order: dict[str, Any] | None
    asked_at: float
    answered_at: float
    cancels: bool = False

    @property
    def accepted(self) -> bool:
        return self.content is not None and self.status == 201
