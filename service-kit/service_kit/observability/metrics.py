"""Metrics, named by Prometheus' conventions. No label ever holds an id."""

import platform
from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from service_kit.broker import PublishOutcome
from service_kit.errors import Unavailable
from service_kit.outbox import OutboxBacklog
from service_kit.version import installed_version

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What every service of the kit measures, in a registry of its own.

    Two services in one process therefore do not mix. `registry` takes a service's own metrics too.
    `publishes` are the event types that it sends: a series that begins at 0 lets the first failure be seen.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, publishes: Sequence[str] = ()) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = registry or CollectorRegistry()
        self.events_published = self._counter(
            "events_published", "Events confirmed by the broker.", ["event_type"]
        )
        self.events_turned_away = self._counter(
            "events_turned_away",
            "Publishes that the broker refused or could not route; the events wait in the outbox.",
            ["event_type", "reason"],
        )
        self.publish_duration = self._duration(
            "publish_duration_seconds", "From the first byte of a batch of events to its last confirm."
        )
        self.events_handled = self._counter(
            "events_handled", "Events received whose effect is committed, or was before."
        )
        self.events_failed = self._counter("events_failed", "Attempts that failed by the event's own fault.")
        self.events_moved_to_dlq = self._counter("events_moved_to_dlq", "Events set aside as dead letters.")
        self.outbox_pending = self._gauge("outbox_pending", "Events that wait to be published.")
        self.outbox_oldest = self._gauge(
            "outbox_oldest_created_timestamp_seconds",
            "When the oldest waiting event was created; 0 when none waits.",
        )
        self.dead_letters = self._gauge("dead_letters", "Dead letters that wait for an operator.")
        self.retries_pending = self._gauge("retries_pending", "Events that wait for another attempt.")
        self.consuming_paused = self._gauge(
            "consuming_paused", "1 while an operator has paused consuming, else 0."
        )
        self.consumer_batch_size = Histogram(
            "consumer_batch_size",
            "Messages handled in one batch.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.consumer_batch_duration = self._duration(
            "consumer_batch_duration_seconds",
            "From a batch's arrival to its acknowledgement, outages included.",
        )
        self.queue_messages = self._gauge(
            "queue_messages", "Messages in the service's queue that nobody has received yet."
        )
        self.background_failures = self._counter(
            "background_service_failures",
            "Turns of a background service that failed: by an outage, or by a defect.",
            ["background_service", "kind"],
        )
        self.broker_connected = self._gauge(
            "broker_connected", "1 while the broker can be published to and consumed from, else 0."
        )
        self.database_connections = self._gauge(
            "database_connections", "Open connections to the database, by what they do.", ["state"]
        )
        self.database_connections_max = self._gauge(
            "database_connections_max", "The most connections that may be open at a time."
        )
        self.http_request_duration = self._duration(
            "http_request_duration_seconds",
            "From the request's head to the end of the answer.",
            ["method", "route", "status"],
        )
        build = self._gauge(
            "order_processor_build_info", "1; the labels say what runs.", ["version", "python"]
        )
        build.labels(installed_version(), platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        for event_type in publishes:
            self.events_published.labels(event_type)
            for outcome in (PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE):
                self.events_turned_away.labels(event_type, outcome.value)

    def observe_backlog(self, backlog: OutboxBacklog) -> None:
        self.outbox_pending.set(backlog.pending)
        self.outbox_oldest.set(_timestamp(backlog.oldest_created_at))

    def observe_background_service(self, name: str) -> Callable[[Exception], None]:
        """What counts the failed turns of this background service."""
        outages, defects = (self.background_failures.labels(name, kind) for kind in ("outage", "defect"))

        def failed(error: Exception) -> None:
            (outages if isinstance(error, Unavailable) else defects).inc()

        return failed

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _duration(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS_BUCKETS, registry=self.registry)


def _timestamp(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
