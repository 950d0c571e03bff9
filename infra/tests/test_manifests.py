"""`make manifests` finds what is wrong: each kind of fault is put in once, and seen."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.checks import manifests
from infra.checks.engine import CheckFailed
from infra.checks.manifests import OVERLAYS, Object, build, faults_of
from infra.checks.overlays import get

pytestmark = pytest.mark.skipif(
    manifests.kustomize() is None, reason="neither kubectl nor kustomize is here (`make manifests` says more)"
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_object_is_what_its_api_takes(overlay: str) -> None:
    assert [fault for one in build(overlay) for fault in faults_of(one)] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_field_that_no_api_knows_is_found_in_every_object(overlay: str) -> None:
    for one in build(overlay):
        part = "data" if one["kind"] == "ConfigMap" else "metadata" if "spec" not in one else "spec"
        broken = copy.deepcopy(one)
        broken[part]["nonsense"] = [1]

        assert any("nonsense" in fault for fault in faults_of(broken)), one["kind"]


def _probe_field(pod: Object) -> None:
    pod["containers"][0]["livenessProbe"]["httpGet"]["prot"] = "http"


def _port_type(pod: Object) -> None:
    pod["containers"][0]["ports"][0]["containerPort"] = "eight"


def _no_name(pod: Object) -> None:
    del pod["containers"][0]["name"]


@pytest.mark.parametrize("breaking", [_probe_field, _port_type, _no_name])
def test_a_fault_deep_in_a_deployment_is_found(breaking: Callable[[Object], None]) -> None:
    deployment = copy.deepcopy(get("production", "Deployment", "order-service"))
    breaking(deployment["spec"]["template"]["spec"])

    assert list(faults_of(deployment))


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Cluster", "order-db", "postgresql/synchronous/dataDurability", "maybe"),
        ("RabbitmqCluster", "rabbitmq", "replicas", "three"),
        ("RabbitmqCluster", "rabbitmq", "override", {}),
        ("ScaledObject", "order-service", "triggers/0/metricType", 1),
        ("ScaledObject", "order-service", "scaleTargetRef/nme", "order-service"),
        ("ServiceMonitor", "order-service", "endpoints/0/interval", "soon"),
        ("PrometheusRule", "order-processor", "groups/0/rules/0/expression", "up"),
        ("Queue", "orders.set-aside", "rabbitmqClusterReference/nmae", "rabbitmq"),
    ],
)
def test_a_fault_deep_in_a_custom_resource_is_found(kind: str, name: str, path: str, value: object) -> None:
    broken = copy.deepcopy(get("production", kind, name))
    *way, last = path.split("/")
    part: Any = broken["spec"]
    for step in way:
        part = part[int(step) if isinstance(part, list) else step]
    part[last] = value

    assert list(faults_of(broken))


def test_what_has_no_schema_is_a_fault() -> None:
    assert list(faults_of({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "thing"}}))


def test_ci_does_not_pass_without_kustomize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "kustomize", lambda: None)
    monkeypatch.setenv("CI", "true")
    assert manifests.main([]) == 1
    monkeypatch.delenv("CI")
    assert manifests.main([]) == 0


def test_what_cannot_be_built_is_a_fault() -> None:
    with pytest.raises(CheckFailed):
        build("nowhere")


def test_alerts_that_differ_from_the_file_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manifests.main([]) == 0
    monkeypatch.setattr(manifests, "alerts_object", lambda: "other: rules")
    assert manifests.main([]) == 1
    assert "alerts.yaml" in capsys.readouterr().err
