"""Where a consumer's deliveries come from: the broker, or the retries that are due."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service_kit.broker import Subscription
from service_kit.failures import FailedEvent, FailureStore, Postponed
from service_kit.lifecycle import Wakeup
from service_kit.message import Delivery


@dataclass(slots=True)
class Settlement:
    """The events of a batch that failed; all others were handled, or wait for a retry already."""

    handled: int = 0
    postponed: list[Postponed] = field(default_factory=list)
    dead: list[FailedEvent] = field(default_factory=list)


class Source(Protocol):
    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries; safe to cancel."""
        ...

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        """Those events that wait for a retry, and so are not to be handled out of turn."""
        ...

    async def settle(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        """Store what failed, then end the deliveries. May be repeated after Unavailable."""

    def holds(self, deliveries: Sequence[Delivery]) -> bool:
        """Whether settling these can still succeed; if not, they will be delivered again."""
        ...


class BrokerSource:
    """Deliveries of a queue: acknowledged once everything about them is in the database."""

    def __init__(self, subscription: Subscription, failures: FailureStore) -> None:
        self._subscription = subscription
        self._failures = failures
        self._lost = False

    async def receive(self, limit: int) -> Sequence[Delivery]:
        self._lost = False
        return await self._subscription.receive(limit)

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        return await self._failures.postponed(event_keys) if event_keys else set()

    async def settle(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        if settlement.postponed or settlement.dead:
            await self._failures.set_aside(settlement.postponed, settlement.dead)
        self._lost = True  # unless the next line returns: an acknowledgement that failed cannot be repeated
        await self._subscription.acknowledge(deliveries[-1])
        self._lost = False

    def holds(self, deliveries: Sequence[Delivery]) -> bool:
        return not self._lost


class RetrySource:
    """Retries that are due, leased from the database for as long as handling them may take.

    `wakeup` is notified by whoever in this process makes one due now; polling finds all others.
    """

    def __init__(
        self,
        failures: FailureStore,
        *,
        poll_seconds: float = 1.0,
        lease_seconds: float = 120.0,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._failures = failures
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._wakeup = wakeup or Wakeup()

    async def receive(self, limit: int) -> Sequence[Delivery]:
        while not (due := await self._failures.lease_due(limit, lease_seconds=self._lease_seconds)):
            await self._wakeup.wait(self._poll_seconds)
        return due

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        return set()

    async def settle(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        ended = [delivery.tag for delivery in deliveries]
        await self._failures.set_aside(settlement.postponed, settlement.dead, ended=ended)

    def holds(self, deliveries: Sequence[Delivery]) -> bool:
        return True
