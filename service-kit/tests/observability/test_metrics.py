import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service_kit.errors import BrokerUnavailable
from service_kit.observability.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(publishes=["order.created"])


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_failure_is_counted_from_zero_so_that_the_first_is_seen(metrics: Metrics) -> None:
    for reason in ("refused", "unroutable"):
        value = sample(metrics, "events_turned_away_total", event_type="order.created", reason=reason)
        assert value == 0
    assert sample(metrics, "events_published_total", event_type="order.created") == 0


def test_failed_turns_are_counted_by_whether_they_were_outages(metrics: Metrics) -> None:
    failed = metrics.observe_background_service("relay")
    failed(BrokerUnavailable())
    failed(BrokerUnavailable())
    failed(ZeroDivisionError())

    counted = {
        kind: sample(metrics, "background_service_failures_total", background_service="relay", kind=kind)
        for kind in ("outage", "defect")
    }
    assert counted == {"outage": 2, "defect": 1}


def test_what_runs_is_told_by_the_labels_of_a_constant(metrics: Metrics) -> None:
    text = generate_latest(metrics.registry).decode()

    assert 'order_processor_build_info{python="3.' in text
    assert "process_resident_memory_bytes " in text


def test_two_services_of_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics(CollectorRegistry())
    first.outbox_pending.set(7)

    assert (sample(first, "outbox_pending"), sample(second, "outbox_pending")) == (7, 0)
