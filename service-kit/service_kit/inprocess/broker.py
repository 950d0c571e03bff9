"""The `Broker` port within one process: for standalone use and tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from service_kit.inprocess.publisher import InProcessPublisher
from service_kit.inprocess.queue import Queue
from service_kit.inprocess.subscription import InProcessSubscription

CAPACITY_BYTES = 64 * 1024 * 1024


class InProcessBroker:
    """A broker without a server: `async with InProcessBroker() as broker`, shared by both sides.

    No memory holds the only copy of a message: a publish is CONFIRMED when the consumer of every bound queue
    has acknowledged it, and until then the publisher keeps what it published. Routing keys match exactly;
    `*` and `#` mean nothing here. A queue and its bindings live as long as the broker, its messages wait for
    the next subscription. A queue that holds `capacity_bytes` lets publishers wait. Leaving ends every
    publish and every receive with BrokerUnavailable.
    """

    def __init__(self, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._queues: dict[str, Queue] = {}
        self._subscriptions: set[InProcessSubscription] = set()
        self._publisher = InProcessPublisher(self._queues)

    async def __aenter__(self) -> "InProcessBroker":
        self._publisher.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publisher.close()
        for subscription in self._subscriptions:
            subscription.close()

    def publisher(self) -> InProcessPublisher:
        return self._publisher

    def subscribe(
        self, queue: str, routing_keys: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[InProcessSubscription]:
        """As the port says. Raises ValueError for a `prefetch` outside 1 to 65535 or an empty name."""
        if not queue or not 1 <= prefetch <= 65_535:
            raise ValueError("a queue needs a name, and prefetch must be from 1 to 65535")
        return self._subscribed(queue, routing_keys, prefetch)

    def problem(self) -> str | None:
        return None if self._publisher.is_open else "the in-process broker is closed"

    @asynccontextmanager
    async def _subscribed(
        self, name: str, routing_keys: Sequence[str], prefetch: int
    ) -> AsyncIterator[InProcessSubscription]:
        queue = self._queues.setdefault(name, Queue(self._capacity_bytes))
        queue.routing_keys.update(routing_keys)
        subscription = InProcessSubscription(queue, prefetch)
        if not self._publisher.is_open:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()
