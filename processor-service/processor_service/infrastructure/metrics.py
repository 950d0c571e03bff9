"""What this service measures beyond the kit's metrics."""

from prometheus_client import Counter

from service_kit.observability.metrics import Metrics


class ProcessorMetrics(Metrics):
    def __init__(self) -> None:
        super().__init__()
        self.orders_decided = Counter(
            "orders_decided",
            "Events order.created by what became of them.",
            ["outcome"],
            registry=self.registry,
        )

    def count_outcome(self, outcome: str) -> None:
        self.orders_decided.labels(outcome).inc()
