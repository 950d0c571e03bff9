"""What is known after a run: from the client, the databases, the bystander and the operating system."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.answers import Answer
from chaos.bystander import Seen
from chaos.poison import Poison


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the audit: what happened to a row of `relation`."""

    relation: str
    operation: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Of one service: memory of its largest process, and connections of all of its processes."""

    megabytes: float
    database_connections: int
    broker_connections: int
    files: int


@dataclass(slots=True, kw_only=True)
class Observed:
    """`orders` and `states` by order id. `before` and `after`: levels by service, warm and settled."""

    answers: Sequence[Answer] = ()
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    order_changes: Sequence[Change] = ()
    processor_changes: Sequence[Change] = ()
    left: dict[str, int] = field(default_factory=dict)
    """Rows and messages that still wait, by the name of the table or queue that holds them."""
    dead: list[Poison] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    seen: Sequence[Seen] = ()
    loses_messages: bool = False
    before: dict[str, Level] = field(default_factory=dict)
    after: dict[str, Level] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    """How the services' processes ended, other than by a fault or in order."""
    settled: bool = True
