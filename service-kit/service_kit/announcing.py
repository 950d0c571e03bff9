"""Events that need no reader: who wants to know of them declares a queue first."""

from collections.abc import Collection, Sequence

from service_kit.broker import Publisher, PublishOutcome
from service_kit.message import Message


class Announcing:
    """A Publisher for which an event of `event_types` is published when the broker has no queue for it.

    To everything else a missing queue is an outage of the route, and the event waits for it. Refused, or with
    the broker away, these wait too.
    """

    def __init__(self, publisher: Publisher, event_types: Collection[str]) -> None:
        self._publisher = publisher
        self._event_types = event_types
        self.ready = publisher.ready

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        outcomes = await self._publisher.publish(messages)
        if PublishOutcome.UNROUTABLE not in outcomes:
            return outcomes
        return [
            self._announced(message, outcome) for message, outcome in zip(messages, outcomes, strict=True)
        ]

    def _announced(self, message: Message, outcome: PublishOutcome) -> PublishOutcome:
        unwanted = outcome is PublishOutcome.UNROUTABLE and message.routing_key in self._event_types
        return PublishOutcome.CONFIRMED if unwanted else outcome
