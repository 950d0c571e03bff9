"""The relay publishes what the outbox holds: one claim, one confirm, one removal per row."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

import structlog

from service_kit import failpoints
from service_kit.back_pressure import BackPressure
from service_kit.broker import Publisher, PublishOutcome
from service_kit.errors import BrokerUnavailable, MessageRejected
from service_kit.gathering import gathering_seconds
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.message import Message
from service_kit.observability.metrics import Metrics
from service_kit.observability.subjects import about, subject_in
from service_kit.outbox import OutboxRow, OutboxStore
from service_kit.routes import ClosedRoutes

_DRAIN_SECONDS_MAX = 3.0

Parcel = tuple[Message, Sequence[OutboxRow]]
"""A message and the rows whose events it carries."""

PublishParcels = Callable[[Sequence[Parcel]], Coroutine[Any, Any, Sequence[PublishOutcome]]]
"""As `Publisher.publish`."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """`poll_seconds`: how late an event committed by another process is seen at the latest."""

    batch_rows: int = 500
    events_per_message: int = 1
    message_bytes_max: int = 262_144
    poll_seconds: float = 1.0


@dataclass(slots=True)
class Published:
    """What became of the rows of one claim, by id; a row in neither stays as it was."""

    confirmed: list[int] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)


class Relay(BackgroundService):
    """Claims a bounded batch, publishes it with pipelined confirms, removes what was confirmed.

    The claim is a transaction held until the confirms are in, so that a crash at any instant releases the
    rows at once: an event is published at least once, and never by two relays at the same time. `wakeup`
    is notified by commits in this process; polling finds all others. `subject_field` is the field of an event
    that says what it is about, and what log lines call it. `publish` does so by `publisher`, unless it adds
    something (a trace).
    """

    name: ClassVar[str] = "relay"

    def __init__(
        self,
        outbox: OutboxStore,
        publisher: Publisher,
        *,
        wakeup: Wakeup,
        metrics: Metrics,
        settings: RelaySettings = RelaySettings(),
        subject_field: str = "subject",
        back_pressure: BackPressure | None = None,
        random: Random | None = None,
        publish: PublishParcels | None = None,
    ) -> None:
        super().__init__(random)
        self._outbox = outbox
        self._back_pressure = back_pressure or BackPressure()
        self._publisher = publisher
        self._publish_parcels = publish or self._publish_plainly
        self._wakeup = wakeup
        self._metrics = metrics
        self._settings = settings
        self._subject_field = subject_field
        self._closed = ClosedRoutes(self._random)

    async def run_once(self) -> None:
        await self.until_stopped(self._publisher.ready())
        if self.stopping:
            return
        clock, enough = asyncio.get_running_loop().time, self._settings.batch_rows
        began_at, found = clock(), 0
        try:
            for event_type in self._closed.due():
                if not await self._relay_batch(1, only=event_type):
                    self._closed.open(event_type)  # nothing is left to probe it with
            found = await self._relay_batch(enough)
        finally:
            self._back_pressure.turn_ended(behind=found == enough)
        if found < enough:
            if wait_seconds := gathering_seconds(found, enough=enough, took_seconds=clock() - began_at):
                await self.pause(wait_seconds)
            pause_seconds = min(self._settings.poll_seconds, self._closed.seconds_to_next_probe())
            await self.until_stopped(self._wakeup.wait(pause_seconds))

    def waits_for(self, event_type: str) -> str:
        """What an event of that type in the outbox waits for, in words for an operator."""
        if event_type in self._closed.event_types():
            return f"a queue that takes {event_type}: the broker has none, or refuses"
        return "the next turn of a relay"

    async def _relay_batch(self, limit: int, *, only: str | None = None) -> int:
        excluding = () if only else self._closed.event_types()
        async with self._outbox.claim(limit, only=only, excluding=excluding) as claim:
            if not claim.rows:
                return 0
            clock = asyncio.get_running_loop().time
            began_at = clock()
            published = await self._publish(claim.rows)
            failpoints.passed("relay.confirmed")
            dead = await claim.settle(
                published=published.confirmed,
                rejected=published.rejected,
                publish_seconds=clock() - began_at,
            )
            failpoints.passed("relay.removed")
        self._metrics.events_failed.inc(len(published.rejected))
        self._metrics.events_moved_to_dlq.inc(dead)
        return len(claim.rows)

    async def _publish(self, rows: Sequence[OutboxRow]) -> Published:
        published = Published()
        parcels = list(pack(rows, self._settings))
        try:
            outcomes = await self._confirmed(parcels)
        except MessageRejected as rejection:
            return await self._publish_without_culprit(rows, rejection)
        for (message, contents), outcome in zip(parcels, outcomes, strict=True):
            if outcome is PublishOutcome.CONFIRMED:
                published.confirmed += [row.id for row in contents]
                self._closed.open(message.routing_key)
                self._metrics.events_published.labels(message.routing_key).inc(len(contents))
            else:
                self._closed.close(message.routing_key, outcome)
                self._metrics.events_turned_away.labels(message.routing_key, outcome.value).inc(len(contents))
        return published

    async def _publish_plainly(self, parcels: Sequence[Parcel]) -> Sequence[PublishOutcome]:
        return await self._publisher.publish([message for message, _ in parcels])

    async def _confirmed(self, parcels: Sequence[Parcel]) -> Sequence[PublishOutcome]:
        """As `publish`, but draining does not wait for ever on a reader that may be gone before us."""
        publishing = self._publish_parcels(parcels)
        with self._metrics.publish_duration.time():
            outcomes = await self.until_stopped(publishing, linger_seconds=_DRAIN_SECONDS_MAX)
        if outcomes is None:
            raise BrokerUnavailable("stopped before the broker had confirmed")
        return outcomes

    async def _publish_without_culprit(
        self, rows: Sequence[OutboxRow], rejection: MessageRejected
    ) -> Published:
        """Halve the batch until the row that the broker rejects stands alone."""
        if len(rows) == 1:
            row = rows[0]
            subject = subject_in(row.payload, self._subject_field)
            fields = about(self._subject_field, subject, row.traceparent, event_type=row.event_type)
            log.warning("event_rejected", **fields, outbox_id=row.id, reason=str(rejection))
            return Published(rejected={row.id: str(rejection)})
        middle = len(rows) // 2
        first, second = await self._publish(rows[:middle]), await self._publish(rows[middle:])
        return Published(first.confirmed + second.confirmed, first.rejected | second.rejected)


def pack(rows: Sequence[OutboxRow], settings: RelaySettings) -> Iterator[Parcel]:
    """Put rows into messages: one each, or arrays of up to `events_per_message` events of one type.

    The order of the rows of one type is kept. An array takes the message id and trace of its first event.
    """
    waiting: dict[str, list[OutboxRow]] = defaultdict(list)
    size: dict[str, int] = defaultdict(int)
    for row in rows:
        contents = waiting[row.event_type]
        full = len(contents) == settings.events_per_message
        if contents and (full or size[row.event_type] + len(row.payload) > settings.message_bytes_max):
            yield _message(contents), contents
            contents = waiting[row.event_type] = []
            size[row.event_type] = 0
        contents.append(row)
        size[row.event_type] += len(row.payload)
    for contents in waiting.values():
        yield _message(contents), contents


def _message(rows: Sequence[OutboxRow]) -> Message:
    first = rows[0]
    body = first.payload if len(rows) == 1 else b"[" + b",".join(row.payload for row in rows) + b"]"
    headers = {"traceparent": first.traceparent} if first.traceparent else {}
    return Message(routing_key=first.event_type, body=body, message_id=first.message_id, headers=headers)
