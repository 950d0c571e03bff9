"""A publisher and a subscription that do what the test says."""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.message import Delivery, Message


def confirm_everything(_: Message) -> PublishOutcome:
    return PublishOutcome.CONFIRMED


class FakePublisher:
    """Implements Publisher. `answer` gives the outcome of a message, or raises what `publish` then raises.

    While `up` is not set it is not ready; while `confirming` is not set the confirms are on their way.
    `batches` holds what was published and when, by the loop's clock; `messages` what was confirmed.
    """

    def __init__(self, answer: Callable[[Message], PublishOutcome] = confirm_everything) -> None:
        self.answer = answer
        self.batches: list[tuple[float, Sequence[Message]]] = []
        self.messages: list[Message] = []
        self.up, self.confirming = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.confirming.set()

    async def ready(self) -> None:
        await self.up.wait()

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        if not self.up.is_set():
            raise BrokerUnavailable
        self.batches.append((asyncio.get_running_loop().time(), messages))
        await self.confirming.wait()
        outcomes = [self.answer(message) for message in messages]
        self.messages += [
            message
            for message, outcome in zip(messages, outcomes, strict=True)
            if outcome is PublishOutcome.CONFIRMED
        ]
        return outcomes


class FakeSubscription:
    """Implements Subscription on a queue of its own. `acknowledged` are the deliveries that are gone."""

    def __init__(self) -> None:
        self.acknowledged: list[Delivery] = []
        self._waiting: list[Delivery] = []
        self._held: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._paused = False
        self._tags = itertools.count(1)

    def put(
        self,
        body: bytes,
        *,
        routing_key: str = "order.created",
        message_id: str | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        delivery = Delivery(
            tag=next(self._tags),
            routing_key=routing_key,
            body=body,
            message_id=message_id,
            headers=headers or {},
        )
        self._waiting.append(delivery)
        self._arrived.set()

    def lose_connection(self) -> None:
        """What was not acknowledged comes again, under new tags."""
        again = [delivery._replace(tag=next(self._tags), redelivered=True) for delivery in self._held]
        self._waiting[:0] = again
        self._held.clear()
        self._arrived.set()

    async def receive(self, limit: int) -> Sequence[Delivery]:
        while self._paused or not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        taken, self._waiting = self._waiting[:limit], self._waiting[limit:]
        self._held += taken
        return taken

    async def acknowledge(self, up_to: Delivery) -> None:
        await asyncio.sleep(0)
        if up_to not in self._held:
            raise BrokerUnavailable("the connection that delivered it is gone")
        count = self._held.index(up_to) + 1
        self.acknowledged += self._held[:count]
        del self._held[:count]

    def waiting(self) -> int | None:
        return len(self._waiting)

    def pause(self) -> None:
        self._paused = True
        self.lose_connection()

    def resume(self) -> None:
        self._paused = False
        self._arrived.set()
