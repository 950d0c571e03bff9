"""The `Broker` port over RabbitMQ: what is constructed in `main`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from types import TracebackType

from service_kit.rabbitmq.address import Address
from service_kit.rabbitmq.link import CLOSED, Link, LinkSettings, Session
from service_kit.rabbitmq.publisher import RabbitPublisher
from service_kit.rabbitmq.subscription import RabbitSubscription
from service_kit.rabbitmq.topology import QueueType, Topology


class RabbitBroker:
    """One exchange on RabbitMQ: `async with RabbitBroker(url, exchange="orders") as broker`.

    Entering never fails because the broker is away: it connects in the background and again whenever the
    connection is lost, for ever. Publishing and each subscription have a connection of their own, since an
    alarm of the broker blocks whole connections. Leaving closes them politely, within 3 s.

    `url` may name several hosts (`amqp://user:password@one:5672,two:5672/vhost`), tried in random order;
    `Address.parse` describes it. A dead peer is noticed after two to two and a half times
    `heartbeat_seconds` (the broker may ask for less). A publish fails after `confirm_timeout_seconds` without
    progress. Exchange, queues and bindings are declared again every `topology_interval_seconds`.

    Raises ValueError, in one line without the password, for a malformed URL or exchange name.
    """

    def __init__(
        self,
        url: str,
        *,
        exchange: str,
        queue_type: QueueType = "classic",
        connection_name: str = "order-processor",
        confirm_timeout_seconds: float = 10.0,
        heartbeat_seconds: int = 10,
        topology_interval_seconds: float = 30.0,
        random: Random | None = None,
    ) -> None:
        self._settings = LinkSettings(
            address=Address.parse(url),
            heartbeat_seconds=heartbeat_seconds,
            topology_interval_seconds=topology_interval_seconds,
            random=random or Random(),
        )
        self._exchange = exchange
        self._queue_type: QueueType = queue_type
        self._name = connection_name
        self._warned: set[str] = set()
        self._publisher = RabbitPublisher(
            Topology(exchange=exchange, warned=self._warned),
            confirm_timeout_seconds=confirm_timeout_seconds,
            topology_interval_seconds=topology_interval_seconds,
        )
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._subscriptions: set[RabbitSubscription] = set()

    async def __aenter__(self) -> "RabbitBroker":
        self._start(self._publisher, f"{self._name} publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for subscription in self._subscriptions:
            subscription.close(CLOSED)
        await self._stop(*self._links)

    def publisher(self) -> RabbitPublisher:
        return self._publisher

    def subscribe(
        self, queue: str, routing_keys: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[RabbitSubscription]:
        """As the port says. Raises ValueError for a name, or a `prefetch`, that AMQP cannot carry."""
        if not queue:
            raise ValueError("a queue needs a name")
        topology = Topology(
            exchange=self._exchange,
            queue=queue,
            queue_type=self._queue_type,
            routing_keys=tuple(routing_keys),
            warned=self._warned,
        )
        subscription = RabbitSubscription(
            topology, prefetch=prefetch, topology_interval_seconds=self._settings.topology_interval_seconds
        )
        return self._subscribed(subscription, f"{self._name} {queue}")

    def problem(self) -> str | None:
        """Of the publishing connection first, then of the subscriptions'."""
        if not self._links:
            return CLOSED
        problems = (link.problem for link in self._links)
        return next((problem for problem in problems if problem), self._publisher.problem())

    @asynccontextmanager
    async def _subscribed(
        self, subscription: RabbitSubscription, name: str
    ) -> AsyncIterator[RabbitSubscription]:
        link = self._start(subscription, name)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close(CLOSED)
            await self._stop(link)

    def _start(self, session: Session, name: str) -> Link:
        link = Link(session, self._settings, name=name)
        self._links[link] = asyncio.create_task(link.run(), name=f"rabbitmq {name}")
        return link

    async def _stop(self, *links: Link) -> None:
        # Those that were stopped before are not in it.
        running = {task for link in links if (task := self._links.pop(link, None))}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
