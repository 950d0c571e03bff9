"""Dashboard, alerts and their documents speak of metrics that there are, and of all of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

import order_console
from infra.checks.engine import FOLDER
from infra.checks.prometheus import dashboard_queries, hurried_alerts
from order_service.infrastructure.metrics import OrderMetrics
from processor_service.infrastructure.metrics import ProcessorMetrics

CONSOLE = Path(order_console.__file__).parent
RUNBOOK = FOLDER.parent / "docs" / "runbook.md"
DOCUMENT = FOLDER.parent / "docs" / "observability.md"
# Of Prometheus and of every Python process; the rest is ours.
FOREIGN = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_NO_METRICS = {"histogram_quantile", "event_type", "background_service"}


def metrics_of(registry: CollectorRegistry) -> set[str]:
    """Names as queries use them, without the parts of a histogram."""
    suffix = {"counter": "_total"}
    return {family.name + suffix.get(family.type, "") for family in registry.collect()}


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    return metrics_of(OrderMetrics().registry) | metrics_of(ProcessorMetrics().registry)


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((FOLDER / "prometheus" / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def used_in(expression: str) -> Iterator[str]:
    for name in _NAME.findall(re.sub(r'"[^"]*"', "", expression)):
        if name not in _NO_METRICS:
            yield re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize(("title", "query"), dashboard_queries())
def test_a_query_of_the_dashboard_asks_for_metrics_that_there_are(
    title: str, query: str, metrics: set[str]
) -> None:
    assert set(used_in(query)) <= metrics | FOREIGN


@pytest.mark.parametrize(("alert", "expression"), alerts().items())
def test_an_alert_asks_for_metrics_that_there_are(alert: str, expression: str, metrics: set[str]) -> None:
    assert set(used_in(expression)) <= metrics | FOREIGN


def test_each_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load((FOLDER / "prometheus" / "alerts_test.yml").read_text())["tests"]
    tested = {(case["alertname"], "exp_alerts" in case) for test in tests for case in test["alert_rule_test"]}

    assert tested == {(alert, fires) for alert in alerts() for fires in (True, False)}


def test_each_alert_and_each_metric_is_documented(metrics: set[str]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    ours = {name for name in metrics if not name.startswith("process_")}
    assert {name for name in (*ours, *alerts()) if f"`{name}" not in text} == set()


def test_each_alert_and_each_place_of_the_console_is_in_the_runbook() -> None:
    page = (CONSOLE / "templates" / "base.html").read_text(encoding="utf-8")
    places = re.findall(r'\("(?:/[a-z-]+)?", "([A-Z][A-Za-z ]+)"', page)
    headings = re.findall(r"^### (.+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert len(places) == 8
    assert {*places, *alerts()} == set(headings)


def test_no_label_is_an_id() -> None:
    labels = {
        name
        for metrics in (OrderMetrics(), ProcessorMetrics())
        for collector in metrics.registry._collector_to_names
        for name in getattr(collector, "_labelnames", ())
    }

    few = {"background_service", "event_type", "kind", "method", "outcome", "reason", "route", "state"}
    assert labels <= few | {"status", "python", "version"}


def test_the_dashboard_names_the_datasource_that_is_provisioned() -> None:
    folder = FOLDER / "grafana"
    provisioned = yaml.safe_load((folder / "provisioning" / "datasources" / "prometheus.yml").read_text())
    dashboard = json.loads((folder / "dashboards" / "orders.json").read_text())

    used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert used == {provisioned["datasources"][0]["uid"]}


def test_the_hurried_alerts_keep_no_window_of_minutes() -> None:
    assert not re.search(r"\d+m\b", hurried_alerts())
