"""Where the events about one subject are, as far as the database of one service knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """An event was published, and the broker has confirmed it, through the process `relay`."""

    event_type: str
    relay: str
    published_at: datetime
    confirmed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """An event that stands still since `at`.

    `step` is `waiting` (in the outbox), `retry` or `dead_letter`; `detail` can be told to anybody who may see
    the subject.
    """

    step: str
    at: datetime
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """`problems` say in words what could not be looked for."""

    publications: Sequence[Publication]
    halts: Sequence[Halt]
    problems: Sequence[str]
