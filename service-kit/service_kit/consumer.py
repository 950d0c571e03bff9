"""The consumer: deliveries → events → outcomes → settlement, a batch at a time."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar, assert_never

import structlog

from service_kit import failpoints
from service_kit.errors import Unavailable
from service_kit.events import Malformed, decoded_events
from service_kit.failures import DELAY_SECONDS_MAX, FailedEvent, Postponed
from service_kit.gathering import gathering_seconds
from service_kit.lifecycle import BackgroundService
from service_kit.message import MESSAGE_BYTES_MAX, Delivery
from service_kit.observability.metrics import Metrics
from service_kit.observability.subjects import about, subject_in
from service_kit.retry import RetryPolicy, pauses
from service_kit.sources import Settlement, Source

log = structlog.stdlib.get_logger()


class Event(Protocol):
    """`key` names the event for deduplication; `subject` is what it is about, such as an order's id."""

    @property
    def key(self) -> str: ...

    @property
    def subject(self) -> str: ...


E = TypeVar("E", bound=Event)


class Received(NamedTuple, Generic[E]):
    """An event to be handled: `attempt` counts from 1, `last_error` tells of the attempt before.

    `body` is what `event` was decoded from. `received_at` is by the event loop's clock.
    """

    event: E
    attempt: int
    last_error: str | None
    traceparent: str | None
    body: bytes
    received_at: float
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Handled:
    """The event's effect is committed, or was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """The event cannot be handled yet. `delay_seconds` None means: by the retry policy.

    `counts` False says that the event is not at fault, so that this was no attempt.
    """

    reason: str
    delay_seconds: float | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Never:
    """The event can never be handled."""

    reason: str


Outcome = Handled | RetryLater | Never


class Handler(Protocol[E]):
    """What a service does with its events."""

    def decode(self, event_type: str, body: bytes) -> E:
        """Raises MalformedEvent."""
        ...

    async def handle(self, events: Sequence[Received[E]]) -> Sequence[Outcome]:
        """Handle `events`, no two of one subject, in one transaction; return an outcome for each, in order.

        Raising Unavailable means that nothing was committed (or that nobody knows) because of an outage: the
        same events come again. Any other exception means the fault of some event among them.
        """
        ...


class Consumer(BackgroundService, Generic[E]):
    """Takes batches from a source and settles every event of a batch before the next.

    An event is handled, tried again later, or set aside. An outage is none of the three: the batch in hand
    waits until the dependency answers. A batch that fails is halved until the culprit stands alone, so that
    its neighbours are not delayed by it.

    No batch is ever left for the next one: an acknowledgement covers all deliveries before it.
    `subject_field` is what log lines call the subject of an event.
    """

    name: ClassVar[str] = "consumer"

    def __init__(
        self,
        source: Source,
        handler: Handler[E],
        *,
        metrics: Metrics,
        batch_size: int = 500,
        retry_policy: RetryPolicy = RetryPolicy(),
        subject_field: str = "subject",
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._source = source
        self._handler = handler
        self._metrics = metrics
        self._batch_size = batch_size
        self._retry_policy = retry_policy
        self._subject_field = subject_field

    async def run_once(self) -> None:
        deliveries = await self.until_stopped(self._source.receive(self._batch_size))
        if deliveries:
            clock = asyncio.get_running_loop().time
            began_at, found = clock(), len(deliveries)
            self._metrics.consumer_batch_size.observe(found)
            with self._metrics.consumer_batch_duration.time():
                await self._process(deliveries)
            took_seconds = clock() - began_at
            if wait_seconds := gathering_seconds(found, enough=self._batch_size, took_seconds=took_seconds):
                await self.pause(wait_seconds)

    async def _process(self, deliveries: Sequence[Delivery]) -> None:
        """Handle and settle; through an outage or a defect, until it ends or we are stopped."""
        delays = pauses(self.outage_backoff, self._random)
        received_at = asyncio.get_running_loop().time()
        settlement: Settlement | None = None
        while True:
            try:
                settlement = settlement or await self._handle_all(deliveries, received_at)
                failpoints.passed("consumer.handled")
                await self._source.settle(deliveries, settlement)
                failpoints.passed("consumer.acknowledged")
                self._count(settlement)
                return
            except Exception as error:
                if self.stopping or not self._source.holds(deliveries):
                    raise
                self.on_failure(error)
                self._report(error)
                await self.pause(next(delays))

    async def _handle_all(self, deliveries: Sequence[Delivery], received_at: float) -> Settlement:
        settlement = Settlement()
        pending: list[_Pending[E]] = []
        for delivery in deliveries:
            for body, event in decoded_events(delivery, self._handler.decode):
                self._sort_in(delivery, body, event, received_at, pending, settlement)
        waiting = await self._source.postponed([item.received.event.key for item in pending])
        for wave in waves([item for item in pending if item.received.event.key not in waiting]):
            await self._handle_wave(wave, settlement)
        return settlement

    def _sort_in(
        self,
        delivery: Delivery,
        body: bytes,
        event: E | Malformed,
        received_at: float,
        pending: "list[_Pending[E]]",
        settlement: Settlement,
    ) -> None:
        if isinstance(event, Malformed):
            subject = subject_in(body, self._subject_field) if len(body) <= MESSAGE_BYTES_MAX else None
            self._bury(FailedEvent.malformed(delivery, body, event.reason, subject), settlement)
        else:
            received = Received(
                event,
                delivery.attempt,
                delivery.last_error,
                _traceparent(delivery.headers),
                body,
                received_at,
                delivery.message_id,
            )
            pending.append(_Pending(delivery, received))

    async def _handle_wave(self, wave: "Sequence[_Pending[E]]", settlement: Settlement) -> None:
        try:
            outcomes = await self._handler.handle([item.received for item in wave])
            settled = list(zip(wave, outcomes, strict=True))
        except Unavailable:
            raise
        except Exception as error:
            if len(wave) > 1:
                middle = len(wave) // 2
                await self._handle_wave(wave[:middle], settlement)
                await self._handle_wave(wave[middle:], settlement)
                return
            event = wave[0].received.event
            fields = about(
                self._subject_field, event.subject, wave[0].received.traceparent, event_key=event.key
            )
            log.warning("event_failed", **fields, exc_info=error)
            settled = [(wave[0], RetryLater(reason=f"{type(error).__name__}: {error}"))]
        for item, outcome in settled:
            self._settle_one(item, outcome, settlement)

    def _settle_one(self, item: "_Pending[E]", outcome: Outcome, settlement: Settlement) -> None:
        match outcome:
            case Handled():
                settlement.handled += 1
            case Never(reason=reason):
                self._bury(item.failed(reason), settlement)
            case RetryLater(reason=reason, counts=False):
                failed = item.failed(reason, attempt=item.delivery.attempt - 1)
                delay = self._retry_policy.backoff.delay_seconds(item.delivery.attempt, self._random)
                self._postpone(failed, outcome, delay, settlement)
            case RetryLater(reason=reason):
                next_delay = self._retry_policy.delay_seconds(item.delivery.attempt, self._random)
                if next_delay is None:
                    self._bury(item.failed(reason), settlement)
                else:
                    self._postpone(item.failed(reason), outcome, next_delay, settlement)
            case _:
                assert_never(outcome)

    def _bury(self, failed: FailedEvent, settlement: Settlement) -> None:
        trace = failed.headers.get("traceparent")
        fields = about(self._subject_field, failed.subject, trace, event_key=failed.event_key)
        log.warning("event_set_aside", **fields, reason=failed.reason, attempt=failed.attempt)
        settlement.dead.append(failed)

    def _postpone(
        self, failed: FailedEvent, later: RetryLater, planned_seconds: float, settlement: Settlement
    ) -> None:
        delay_seconds = planned_seconds if later.delay_seconds is None else later.delay_seconds
        # In this order of arguments NaN becomes the maximum.
        delay_seconds = max(0.0, min(DELAY_SECONDS_MAX, delay_seconds))
        settlement.postponed.append(Postponed(event=failed, delay_seconds=delay_seconds))

    def _count(self, settlement: Settlement) -> None:
        self._metrics.events_handled.inc(settlement.handled)
        self._metrics.events_moved_to_dlq.inc(len(settlement.dead))
        self._metrics.events_failed.inc(len(settlement.dead) + len(settlement.postponed))


class _Pending(NamedTuple, Generic[E]):
    delivery: Delivery
    received: Received[E]

    def failed(self, reason: str, *, attempt: int | None = None) -> FailedEvent:
        return FailedEvent(
            event_key=self.received.event.key,
            event_type=self.delivery.routing_key,
            body=self.received.body,
            message_id=self.delivery.message_id,
            headers=self.delivery.headers,
            attempt=self.delivery.attempt if attempt is None else attempt,
            reason=reason,
            subject=self.received.event.subject,
        )


def waves(pending: "Sequence[_Pending[E]]") -> "Iterator[list[_Pending[E]]]":
    """Split so that no wave holds two events of one subject, each subject's events in their order."""
    rest: Sequence[_Pending[E]] = pending
    while rest:
        wave: dict[str, _Pending[E]] = {}
        later: list[_Pending[E]] = []
        for item in rest:
            subject = item.received.event.subject
            if subject in wave:
                later.append(item)
            else:
                wave[subject] = item
        yield list(wave.values())
        rest = later


def _traceparent(headers: Mapping[str, object]) -> str | None:
    value = headers.get("traceparent")
    return value if isinstance(value, str) else None
