"""What this service measures beyond the kit's metrics."""

from prometheus_client import Counter, Gauge, Histogram

from order_service.application.ports import Finished
from order_service.domain.order import Status
from order_service.infrastructure.flow import FlowMeter
from service_kit.observability.metrics import Metrics

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


class OrderMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__(publishes=["order.created", "order.cancelled"])
        self.flow = FlowMeter()
        self.orders_created = Counter(
            "orders_created", "Orders accepted, without repetitions.", registry=self.registry
        )
        self.orders_processed = Counter(
            "orders_processed", "Orders that reached a final status.", ["status"], registry=self.registry
        )
        self.order_processing_seconds = Histogram(
            "order_processing_seconds",
            "From an order's creation to its final status.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.orders_cancelled = Counter(
            "orders_cancelled", "Pending orders that a client cancelled.", registry=self.registry
        )
        self.orders_reemitted = Counter(
            "orders_reemitted",
            "Orders pending too long whose event the reconciler sent again.",
            registry=self.registry,
        )
        self.intake_waiting = Gauge(
            "intake_waiting", "Orders received that wait for their commit.", registry=self.registry
        )
        self.event_streams = Gauge(
            "event_streams", "Open streams of server-sent events.", registry=self.registry
        )
        self.webhook_attempts = Counter(
            "webhook_attempts",
            "Attempts to deliver a webhook: delivered, to be retried, or failed for good.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("delivered", "retried", "failed"):
            self.webhook_attempts.labels(outcome)
        for status in (Status.DONE, Status.FAILED):
            self.orders_processed.labels(status)

    def count_reemitted(self, orders: int) -> None:
        self.orders_reemitted.inc(orders)

    def count_created(self, orders: int) -> None:
        self.orders_created.inc(orders)
        self.flow.accepted(orders)

    def observe_finished(self, order: Finished) -> None:
        self.flow.finished(order)
        self.orders_processed.labels(order.status).inc()
        self.order_processing_seconds.observe(order.seconds)
