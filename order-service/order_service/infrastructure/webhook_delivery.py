"""From the log to the endpoints: what each is to be told, and the attempts to tell it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import ClassVar, Protocol

import structlog

from order_service.application.webhooks import Answer, Delivery, Subscription, retry_delay_seconds
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.webhook_store import Encode, PostgresWebhooks, fan_out
from service_kit.errors import Unavailable
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.postgres.database import Database

LEASE_SECONDS = 60.0
AT_A_TIME_EACH, AT_A_TIME_ALL = 4, 256
"""Attempts in hand, to one endpoint and to all; one to an endpoint whose last one failed."""

log = structlog.stdlib.get_logger()


class Sender(Protocol):
    async def send(self, delivery: Delivery) -> Answer: ...


class WebhookFanOut(BackgroundService):
    """Writes the deliveries of all endpoints; without one it only looks whether there is one.

    `advanced` wakes it when the log has grown, `written` is told of new deliveries.
    """

    name: ClassVar[str] = "webhook_fan_out"

    def __init__(
        self,
        database: Database,
        webhooks: PostgresWebhooks,
        encode: Encode,
        *,
        written: Wakeup,
        idle_seconds: float = 1.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._webhooks = webhooks
        self._encode = encode
        self._written = written
        self._idle_seconds = idle_seconds
        self._advanced = Wakeup()
        self._position = 0
        self.subscriptions: Sequence[Subscription] = ()

    def advanced(self, position: int) -> None:
        """The log is complete up to there."""
        if position > self._position:
            self._position = position
            if self.subscriptions:
                self._advanced.notify()

    async def run_once(self) -> None:
        self.subscriptions = await self._webhooks.subscriptions()
        more = bool(self.subscriptions)
        while more and not self.stopping:
            added, more = await fan_out(self._database, self.subscriptions, self._encode)
            if added:
                self._written.notify()
        await self.until_stopped(self._advanced.wait(self._idle_seconds))


class WebhookDispatcher(BackgroundService):
    """Sends what is due. An endpoint that fails or is slow keeps its own few places and nobody else's.

    A crash between an answer and its note makes the delivery due again after the lease: told twice, by the
    same message id, and never not at all.
    """

    name: ClassVar[str] = "webhook_dispatcher"

    def __init__(
        self,
        webhooks: PostgresWebhooks,
        sender: Sender,
        fan_out: WebhookFanOut,
        *,
        written: Wakeup,
        metrics: OrderMetrics,
        poll_seconds: float = 1.0,
        lease_seconds: float = LEASE_SECONDS,
        random: Random,
    ) -> None:
        super().__init__(random)
        self._webhooks = webhooks
        self._sender = sender
        self._fan_out = fan_out
        self._written = written
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._delivery_random = random
        self._in_hand: dict[asyncio.Task[None], int] = {}
        self._failing: set[int] = set()

    async def run(self) -> None:
        """Attempts in hand are finished; what is cut off is due again after its lease."""
        try:
            await super().run()
            if self._in_hand:
                await asyncio.wait(self._in_hand)
        finally:
            for task in self._in_hand:
                task.cancel()

    async def run_once(self) -> None:
        room = self._room()
        claimed = await self._webhooks.claim(room, lease_seconds=self._lease_seconds) if room else ()
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._in_hand[task] = delivery.endpoint_id
            task.add_done_callback(self._done)
        if not claimed:
            await self.until_stopped(self._written.wait(self._poll_seconds))

    def _room(self) -> dict[int, int]:
        """How many attempts may begin to each endpoint; whose turn comes first is chance."""
        taken = Counter(self._in_hand.values())
        ids = [subscription.endpoint_id for subscription in self._fan_out.subscriptions]
        self._delivery_random.shuffle(ids)
        left, room = AT_A_TIME_ALL - len(self._in_hand), dict[int, int]()
        for id in ids:
            most = 1 if id in self._failing else AT_A_TIME_EACH
            places = min(most - taken[id], left)
            if places > 0:
                room[id] = places
                left -= places
        return room

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._written.notify()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            answer = await self._sender.send(delivery)
            await self._note(delivery, answer)
        except Unavailable as outage:
            log.warning("webhook_not_noted", endpoint_id=delivery.endpoint_id, reason=str(outage))
        except Exception as error:
            log.error("webhook_not_sent", endpoint_id=delivery.endpoint_id, exc_info=error)

    async def _note(self, delivery: Delivery, answer: Answer) -> None:
        if answer.delivered:
            self._failing.discard(delivery.endpoint_id)
            await self._webhooks.delivered(delivery, answer)
            self._metrics.webhook_attempts.labels("delivered").inc()
            return
        self._failing.add(delivery.endpoint_id)
        again = retry_delay_seconds(delivery.attempts + 1, answer, self._delivery_random)
        await self._webhooks.failed(delivery, answer, again)
        self._metrics.webhook_attempts.labels("failed" if again is None else "retried").inc()
        if answer.gone:
            log.warning("webhook_endpoint_disabled", endpoint_id=delivery.endpoint_id, reason=answer.words())
