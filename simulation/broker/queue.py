"""Queues of the model, and the two ends of a connection."""

import asyncio
from bisect import insort
from collections.abc import Sequence
from typing import Any, Protocol

from service_kit.broker import PublishOutcome
from service_kit.message import Message
from simulation.loop import Owner


class ClientEnd(Protocol):
    """What the server can tell a client."""

    owner: Owner | None

    def lost(self, reason: str) -> None: ...

    def delivered(self, connection: "Connection", tag: int, entry: "Entry") -> None: ...

    def blocked_changed(self) -> None: ...


class Entry:
    """One copy of a message in one queue. `place` keeps its place when it is handed back."""

    __slots__ = ("message", "place", "redelivered")

    def __init__(self, message: Message, place: float) -> None:
        self.message = message
        self.place = place
        self.redelivered = False

    def __lt__(self, other: "Entry") -> bool:
        return self.place < other.place


class Queue:
    """Durable: it outlives connections and restarts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.routing_keys: dict[str, None] = {}
        self.waiting: list[Entry] = []
        self.consumers: list[Connection] = []
        self._next_place = 0

    def append(self, message: Message, position: int | None = None) -> Entry:
        self._next_place += 1
        place = float(self._next_place)
        if position is not None and position < len(self.waiting):
            place = self.waiting[position].place - 0.5
        entry = Entry(message, place)
        insort(self.waiting, entry)
        return entry

    def hand_back(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.redelivered = True
            insort(self.waiting, entry)


class Batch:
    """Messages published together; `answer` ends with the outcomes."""

    __slots__ = ("answer", "connection", "messages")

    def __init__(
        self, connection: "Connection", messages: Sequence[Message], answer: "asyncio.Future[Any]"
    ) -> None:
        self.connection = connection
        self.messages = messages
        self.answer = answer

    def settle(self, outcomes: Sequence[PublishOutcome]) -> None:
        if not self.answer.done() and self.connection.open_for_client:
            self.answer.set_result(outcomes)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # who published may be dead


class Connection:
    """Client and server may differ for a while on whether it is open."""

    __slots__ = (
        "delivered",
        "last_acknowledged",
        "last_push",
        "link",
        "open_for_client",
        "open_for_server",
        "parked",
        "prefetch",
        "pushes",
        "queue",
        "unacknowledged",
    )

    def __init__(self, link: ClientEnd) -> None:
        self.link = link
        self.open_for_client = True
        self.open_for_server = True
        self.queue: Queue | None = None
        self.prefetch = 0
        self.delivered = 0
        self.last_acknowledged = 0
        self.last_push = 0.0
        self.pushes: list[tuple[int, Entry]] = []
        self.unacknowledged: list[tuple[int, Entry]] = []
        self.parked: list[Batch] = []
