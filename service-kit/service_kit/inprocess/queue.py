"""One queue in memory, and what the publishers of its messages wait for."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from service_kit.message import Message

_BYTES_PER_MESSAGE = 512
"""What an entry costs beside its body, roughly."""


@dataclass(slots=True, eq=False)
class Batch:
    """One publish: `settled` ends when every copy of every message is acknowledged."""

    settled: asyncio.Future[None]
    unacknowledged: int = 0

    def acknowledged(self) -> None:
        self.unacknowledged -= 1
        if not self.unacknowledged and not self.settled.done():
            self.settled.set_result(None)


@dataclass(slots=True, eq=False)
class Entry:
    """One copy of a message, kept until acknowledged."""

    message: Message
    batch: Batch
    redelivered: bool = False


@dataclass(slots=True, eq=False)
class Queue:
    """First in, first out; shared by its subscriptions and outliving them.

    `held_bytes` counts what waits and what is delivered but not acknowledged.
    """

    capacity_bytes: int
    routing_keys: set[str] = field(default_factory=set)
    held_bytes: int = 0
    _waiting: deque[Entry] = field(default_factory=deque)
    _watchers: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return self.held_bytes >= self.capacity_bytes

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def append(self, entry: Entry) -> None:
        self.held_bytes += len(entry.message.body) + _BYTES_PER_MESSAGE
        self._waiting.append(entry)

    def take(self, limit: int) -> list[Entry]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(limit, len(waiting)))]

    def give_back(self, entries: Iterable[Entry]) -> None:
        """Put `entries`, oldest first, before everything that waits, to be delivered again."""
        again = list(entries)
        for entry in again:
            entry.redelivered = True
        self._waiting.extendleft(reversed(again))
        self.wake()

    def acknowledged(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.held_bytes -= len(entry.message.body) + _BYTES_PER_MESSAGE
            entry.batch.acknowledged()
        self.wake()

    async def changed(self) -> None:
        """Wait for the next `wake`. Safe to cancel."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.add(watcher)
        try:
            await watcher
        finally:
            self._watchers.discard(watcher)

    def wake(self) -> None:
        """Let everyone who waits for messages, or for room, look again."""
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)
