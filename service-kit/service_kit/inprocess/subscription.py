"""Consuming a queue of this process."""

from collections import deque
from collections.abc import Sequence
from itertools import count

from service_kit.errors import BrokerUnavailable
from service_kit.inprocess.queue import Entry, Queue
from service_kit.message import Delivery


class InProcessSubscription:
    """The `Subscription` port. Closing hands what is unacknowledged back to the queue, in its place."""

    def __init__(self, queue: Queue, prefetch: int) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._next_tag = count(1)
        self._received_tag = self._handed_back_tag = 0
        self._unacknowledged: deque[tuple[int, Entry]] = deque()
        self._closed = False
        self._paused = False

    async def receive(self, limit: int) -> Sequence[Delivery]:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        while True:
            self._require_open()
            room = 0 if self._paused else self._prefetch - len(self._unacknowledged)
            entries = self._queue.take(min(limit, room))
            if entries:
                return [self._delivered(entry) for entry in entries]
            await self._queue.changed()

    async def acknowledge(self, up_to: Delivery) -> None:
        if up_to.tag > self._received_tag:
            raise ValueError("a delivery was acknowledged that this subscription never returned")
        self._require_open()
        if up_to.tag <= self._handed_back_tag:
            raise BrokerUnavailable("it was handed back, and will be delivered again")
        done: list[Entry] = []
        while self._unacknowledged and self._unacknowledged[0][0] <= up_to.tag:
            done.append(self._unacknowledged.popleft()[1])
        self._queue.acknowledged(done)

    def waiting(self) -> int | None:
        return self._queue.waiting

    def pause(self) -> None:
        self._paused = True
        self._give_back()

    def resume(self) -> None:
        self._paused = False
        self._queue.wake()

    def close(self) -> None:
        """Safe twice. `receive` and `acknowledge` raise BrokerUnavailable from now on."""
        self._closed = True
        self._give_back()

    def _give_back(self) -> None:
        if self._unacknowledged:
            self._handed_back_tag = self._received_tag
        self._queue.give_back([entry for _, entry in self._unacknowledged])
        self._unacknowledged.clear()

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the subscription is closed")

    def _delivered(self, entry: Entry) -> Delivery:
        self._received_tag = next(self._next_tag)
        self._unacknowledged.append((self._received_tag, entry))
        message = entry.message
        return Delivery(
            tag=self._received_tag,
            routing_key=message.routing_key,
            body=message.body,
            message_id=message.message_id,
            headers=dict(message.headers),
            redelivered=entry.redelivered,
        )
