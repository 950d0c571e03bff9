"""What this service measures beyond the kit's metrics."""

from prometheus_client import Counter, Gauge, Histogram

from service_kit.observability.metrics import Metrics

_SECONDS = (0.0001, 0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30)


class ProcessorMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__(publishes=["order.processed"])
        self.orders_decided = Counter(
            "orders_decided",
            "Events order.created by what became of them.",
            ["outcome"],
            registry=self.registry,
        )

        self.decision_seconds = Histogram(
            "decision_seconds",
            "How long the policy took for a batch of orders.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rules_file_broken = Gauge(
            "rules_file_broken",
            "1 while the rules file cannot be used and the rules before it stay in force, else 0.",
            registry=self.registry,
        )
        for outcome in ("decided", "repeated", "ignored", "postponed"):
            self.orders_decided.labels(outcome)

    def count_outcome(self, outcome: str) -> None:
        self.orders_decided.labels(outcome).inc()
