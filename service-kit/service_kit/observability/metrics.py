"""Metrics, named by Prometheus' conventions. No label ever holds an id."""

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from service_kit.outbox import OutboxBacklog

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What every service of the kit measures, in a registry of its own.

    Two services in one process therefore do not mix. `registry` takes a service's own metrics too.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = registry or CollectorRegistry()
        self.events_published = self._counter(
            "events_published", "Events confirmed by the broker.", ["event_type"]
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
        self.consumer_batch_size = Histogram(
            "consumer_batch_size",
            "Messages handled in one batch.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.http_request_duration = Histogram(
            "http_request_duration_seconds",
            "From the request's head to the end of the answer.",
            ["method", "route", "status"],
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )

    def observe_backlog(self, backlog: OutboxBacklog) -> None:
        self.outbox_pending.set(backlog.pending)
        self.outbox_oldest.set(_timestamp(backlog.oldest_created_at))

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


def _timestamp(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0.0
