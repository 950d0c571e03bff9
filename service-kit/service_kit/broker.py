"""The narrow port behind which a broker stands; `rabbitmq/` and `inprocess/` are its two adapters.

Both pass `service_kit.testing.broker_conformance`.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from service_kit.message import Delivery, Message


class PublishOutcome(Enum):
    """What the broker said of one message."""

    CONFIRMED = "confirmed"
    """It is in every queue bound for it, durably."""
    REFUSED = "refused"
    """The broker answered no (`basic.nack`), for instance because a queue is full."""
    UNROUTABLE = "unroutable"
    """No queue is bound for its routing key, so the broker kept nothing."""


class Publisher(Protocol):
    async def ready(self) -> None:
        """Wait until the broker can be published to. May wait for ever; safe to cancel."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Publish all of `messages` (`mandatory`, persistent) and return the broker's word on each, in order.

        The whole batch is sent before the first confirm is awaited.

        Raises BrokerUnavailable when the connection was lost or the confirms did not come in time: each
        message may or may not have arrived. Raises MessageRejected when the broker closed the channel
        because of the content of a message.
        """
        ...


class Subscription(Protocol):
    """One consumer on one durable queue. Not for concurrent use."""

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one delivery, then return what is there, up to `limit`, without waiting for more.

        Deliveries received but never acknowledged are delivered again. Safe to cancel. Raises
        BrokerUnavailable when the connection is lost; call again to wait for its return.
        """
        ...

    async def acknowledge(self, up_to: Delivery) -> None:
        """Acknowledge every delivery received so far up to and including `up_to`.

        Raises BrokerUnavailable when the connection that delivered them is gone: they will come again.
        """

    def waiting(self) -> int | None:
        """Messages in the queue that nobody has received, as last heard of; None when that is not known."""
        ...

    def pause(self) -> None:
        """Hand back every delivery that was not acknowledged, and take none until `resume`. Safe twice.

        `receive` waits meanwhile, and the queue stays declared. What is handed back comes again, to whoever
        consumes.
        """

    def resume(self) -> None: ...


class Broker(Protocol):
    """A connection to one exchange, kept open (and opened again) until closed."""

    def publisher(self) -> Publisher:
        """The one publisher of this connection, the same at each call."""
        ...

    def subscribe(
        self, queue: str, routing_keys: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[Subscription]:
        """Consume `queue`, declared durable and bound for `routing_keys` as soon as the broker answers.

        At most `prefetch` deliveries are held unacknowledged. Leaving the context hands back what was not
        acknowledged.
        """
        ...

    def problem(self) -> str | None:
        """None when the broker can be used now, else what is wrong, in words for an operator."""
        ...
