"""What the Kubernetes overlays promise, as far as it can be read from them; no cluster is asked."""

import inspect
import json
import re

import pytest
import yaml
from prometheus_client import CollectorRegistry

from infra.checks import manifests
from infra.checks.engine import FOLDER
from infra.checks.manifests import ALERTS, OVERLAYS
from infra.checks.overlays import (
    COMPONENT,
    NAME,
    SERVICES,
    environment,
    get,
    may_receive,
    may_send,
    of_kind,
    pods,
    selects,
    service_pods,
)
from order_service.infrastructure.metrics import OrderMetrics
from order_service.settings import OrderSettings
from processor_service.infrastructure.metrics import ProcessorMetrics
from processor_service.settings import ProcessorSettings
from service_kit.http.health import Readiness, health_routes
from service_kit.http.metrics_endpoint import metrics_route
from service_kit.observability.metrics import Metrics
from service_kit.postgres.database import Database
from service_kit.settings import Settings, read_settings

pytestmark = pytest.mark.skipif(
    manifests.kustomize() is None, reason="neither kubectl nor kustomize is here (`make manifests` says more)"
)

SETTINGS: dict[str, type[Settings]] = {"order-service": OrderSettings, "processor-service": ProcessorSettings}
METRICS: dict[str, type[Metrics]] = {"order-service": OrderMetrics, "processor-service": ProcessorMetrics}
QUEUES = {
    "order-service": "order-service.order.processed",
    "processor-service": "processor-service.order.created",
}
EACH_SERVICE = [(overlay, service) for overlay in OVERLAYS for service in SERVICES]
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_starts_with_its_environment_and_without_a_warning(overlay: str) -> None:
    for service, pod in service_pods(overlay):
        settings, warnings = read_settings(SETTINGS[service], environment(overlay, pod))

        assert warnings == []
        if pod["metadata"]["labels"][COMPONENT] == "server":
            assert not settings.migrate
            assert settings.host == "0.0.0.0"
            assert settings.queue_type == ("quorum" if overlay == "production" else "classic")


def test_a_variable_that_is_no_setting_would_be_seen() -> None:
    environ = {"APP__DB_DSN": "postgresql://host/name", "APP__QEUE_TYPE": "quorum"}

    assert read_settings(OrderSettings, environ).warnings


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_only_the_primary_is_a_database_to_work_on(overlay: str) -> None:
    for service, pod in service_pods(overlay):
        dsn = environment(overlay, pod)["APP__DB_DSN"]

        assert f"@{service.removesuffix('-service')}-db-rw:5432/" in dsn
        assert "target_session_attrs=read-write" in dsn


def test_in_production_the_database_proves_who_it_is() -> None:
    for service, pod in service_pods("production"):
        [container] = pod["spec"]["containers"]
        [file] = re.findall(
            r"sslmode=verify-full&sslrootcert=(\S+)/ca.crt", environment("production", pod)["APP__DB_DSN"]
        )
        [mount] = [one["name"] for one in container["volumeMounts"] if one["mountPath"] == file]
        [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == mount]

        assert volume["secret"]["secretName"] == f"{service.removesuffix('-service')}-db-ca"


@pytest.mark.parametrize(("overlay", "service"), EACH_SERVICE)
def test_ports_and_probes_are_those_of_the_code(overlay: str, service: str) -> None:
    pod = get(overlay, "Deployment", service)["spec"]["template"]
    [container] = pod["spec"]["containers"]
    port = read_settings(SETTINGS[service], environment(overlay, pod)).settings.port
    served = {route.path for route in health_routes(service, Readiness({}))}
    probes = {key: container[key]["httpGet"] for key in container if key.endswith("Probe")}

    assert container["ports"] == [{"name": "http", "containerPort": port}]
    assert {probe["path"] for probe in probes.values()} == served == {"/health", "/ready"}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert probes["livenessProbe"]["path"] == "/health"
    [published] = get(overlay, "Service", service)["spec"]["ports"]
    assert published == {"name": "http", "port": port, "targetPort": "http"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_order_service_is_reached_while_the_broker_is_away(overlay: str) -> None:
    [container] = get(overlay, "Deployment", "order-service")["spec"]["template"]["spec"]["containers"]

    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["startupProbe"]["httpGet"]["path"] == "/ready"


@pytest.mark.parametrize(("overlay", "service"), EACH_SERVICE)
def test_a_service_is_not_killed_while_it_drains_and_none_is_missing_in_a_rollout(
    overlay: str, service: str
) -> None:
    spec = get(overlay, "Deployment", service)["spec"]
    pod = spec["template"]["spec"]
    grace_seconds = read_settings(
        SETTINGS[service], environment(overlay, spec["template"])
    ).settings.shutdown_grace_seconds

    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + grace_seconds
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in spec


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_no_rights_that_it_does_not_need(overlay: str) -> None:
    for pod in pods(overlay):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security.get("readOnlyRootFilesystem", False) or container["name"] == "rabbitmq"
            assert {*container["resources"]["requests"], *container["resources"]["limits"]} == {
                "cpu",
                "memory",
            }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_the_repository(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == []
    for pod in pods(overlay):
        for variable in pod["spec"]["containers"][0]["env"]:
            if re.search("PASS|USER|URL|DSN", variable["name"]) and "value" in variable:
                with_login = variable["name"] != "APP__PROCESSOR_URL"
                assert bool(re.search(r"//\$\(\w+\):\$\(\w+\)@", variable["value"])) is with_login


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_selector_finds_exactly_the_pods_that_it_is_for(overlay: str) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(overlay)]
    for one in of_kind(overlay, "Deployment", "StatefulSet"):
        own = one["spec"]["template"]["metadata"]["labels"]
        assert [each for each in labels if selects(one["spec"]["selector"], each)] == [own]
    for one in of_kind(overlay, "Service"):
        assert len([each for each in labels if selects({"matchLabels": one["spec"]["selector"]}, each)]) == 1
    for one in of_kind(overlay, "Deployment"):
        own = one["spec"]["template"]["metadata"]["labels"]
        budget = get(overlay, "PodDisruptionBudget", one["metadata"]["name"])
        assert [each for each in labels if selects(budget["spec"]["selector"], each)] == [own]
        for spread in one["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], own)


def test_a_monitor_finds_the_services_whose_names_the_alerts_know() -> None:
    for service in SERVICES:
        monitor = get("production", "ServiceMonitor", service)["spec"]
        found = [
            one["metadata"]["name"]
            for one in of_kind("production", "Service")
            if selects(monitor["selector"], one["metadata"].get("labels", {}))
        ]

        assert found == [service]
        assert monitor["endpoints"][0]["port"] == "http"
        assert monitor["endpoints"][0]["path"] == metrics_route(CollectorRegistry()).path


def test_the_alerts_are_those_of_the_file() -> None:
    [rules] = of_kind("production", "PrometheusRule")

    assert rules["spec"] == yaml.safe_load(ALERTS.read_text())


def _labels(service: str, component: str) -> dict[str, str]:
    return {
        NAME: service,
        COMPONENT: component,
        "app.kubernetes.io/part-of": "order-processor",
    }


def _servers(overlay: str, kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """Labels of the database's pods and of RabbitMQ's."""
    if overlay == "local":
        return {NAME: f"{kind}-db"}, {NAME: "rabbitmq"}
    return {"cnpg.io/cluster": f"{kind}-db"}, {NAME: "rabbitmq", COMPONENT: "rabbitmq"}


@pytest.mark.parametrize("overlay", ["local", "production"])
@pytest.mark.parametrize(("kind", "other"), [("order", "processor"), ("processor", "order")])
def test_a_service_reaches_its_own_servers_and_no_others(overlay: str, kind: str, other: str) -> None:
    database, rabbitmq = _servers(overlay, kind)
    for component in ("server", "migrations"):
        pod = _labels(f"{kind}-service", component)
        assert may_send(overlay, pod, database, 5432)
        assert may_receive(overlay, database, pod, 5432)
        serves = component == "server"
        assert may_send(overlay, pod, rabbitmq, 5672) is serves
        assert may_receive(overlay, rabbitmq, pod, 5672) is serves
        others_database, _ = _servers(overlay, other)
        assert not may_send(overlay, pod, others_database, 5432)
        assert not may_receive(overlay, others_database, pod, 5432)
        assert not may_send(overlay, pod, None, 443)
        assert not may_send(overlay, pod, rabbitmq, 15672)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_order_service_reaches_processor_service_and_nobody_comes_back(overlay: str) -> None:
    order, processor = _labels("order-service", "server"), _labels("processor-service", "server")

    assert may_send(overlay, order, processor, 8001)
    assert may_receive(overlay, processor, order, 8001)
    assert not may_send(overlay, processor, order, 8000)
    assert not may_receive(overlay, processor, _labels("order-service", "migrations"), 8001)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_clients_and_prometheus_come_in(overlay: str) -> None:
    api = _labels("order-service", "server")
    processor = _labels("processor-service", "server")
    clients = {"order-processor/client": "true"}

    assert may_receive(overlay, api, None, 8000, namespace=clients)
    assert may_receive(overlay, api, None, 8000, namespace=MONITORING)
    assert may_receive(overlay, processor, None, 8001, namespace=MONITORING)
    assert not may_receive(overlay, api, None, 8000, namespace={"kubernetes.io/metadata.name": "default"})
    assert not may_receive(overlay, processor, None, 8001, namespace=clients)
    assert not may_receive(overlay, _labels("order-service", "migrations"), None, 8000, namespace=clients)


def test_the_operators_reach_what_they_run() -> None:
    database, rabbitmq = _servers("production", "order")

    def comes_in(server: dict[str, str], namespace: str, port: int) -> bool:
        return may_receive(
            "production", server, None, port, namespace={"kubernetes.io/metadata.name": namespace}
        )

    assert comes_in(database, "cnpg-system", 8000) and comes_in(database, "cnpg-system", 5432)
    assert comes_in(rabbitmq, "rabbitmq-system", 15672) and comes_in(rabbitmq, "keda", 5672)
    assert comes_in(rabbitmq, "monitoring", 15692) and comes_in(database, "monitoring", 9187)
    assert not comes_in(database, "default", 5432) and not comes_in(rabbitmq, "default", 5672)
    for port in (4369, 25672):
        assert may_send("production", rabbitmq, rabbitmq, port)
        assert may_receive("production", rabbitmq, rabbitmq, port)


@pytest.mark.parametrize("service", SERVICES)
def test_scaling_looks_at_the_queue_and_the_outbox_of_its_service(service: str) -> None:
    spec = get("production", "ScaledObject", service)["spec"]
    triggers = {trigger["type"]: trigger for trigger in spec["triggers"]}

    assert spec["scaleTargetRef"]["name"] == service
    assert triggers["rabbitmq"]["metadata"]["queueName"] == QUEUES[service]
    query = triggers["prometheus"]["metadata"]["query"]
    assert set(re.findall(r"(\w+)\{([^}]*)\}", query)) == {
        (metric, f'namespace="order-processor",job="{service}"')
        for metric in ("outbox_oldest_created_timestamp_seconds", "broker_connected")
    }
    assert {"outbox_oldest_created_timestamp_seconds", "broker_connected"} <= {
        family.name for family in METRICS[service]().registry.collect()
    }
    assert of_kind("production", "HorizontalPodAutoscaler") == []
    authentication = get(
        "production", "TriggerAuthentication", triggers["rabbitmq"]["authenticationRef"]["name"]
    )
    assert {one["parameter"] for one in authentication["spec"]["secretTargetRef"]} == {"username", "password"}


@pytest.mark.parametrize("service", SERVICES)
def test_the_database_has_connections_for_as_many_pods_as_there_may_be(service: str) -> None:
    database = get("production", "Cluster", f"{service.removesuffix('-service')}-db")["spec"]
    pods_max = get("production", "ScaledObject", service)["spec"]["maxReplicaCount"] + 1
    each = inspect.signature(Database).parameters["connections_max"].default

    # For the operator, the standbys and people.
    reserved = 30
    assert pods_max * each + reserved <= int(database["postgresql"]["parameters"]["max_connections"])


def test_production_survives_the_loss_of_any_one_server() -> None:
    assert get("production", "RabbitmqCluster", "rabbitmq")["spec"]["replicas"] == 3
    for name in ("order-db", "processor-db"):
        spec = get("production", "Cluster", name)["spec"]
        assert spec["instances"] == 3
        assert spec["postgresql"]["synchronous"] == {
            "method": "any",
            "number": 1,
            "dataDurability": "required",
        }


def test_the_queues_have_the_limits_of_the_definitions() -> None:
    [defined] = json.loads((FOLDER / "rabbitmq" / "definitions.json").read_text())["policies"]
    spec = get("production", "Policy", "orders")["spec"]

    assert (spec["pattern"], spec["vhost"]) == (defined["pattern"], defined["vhost"])
    assert defined["definition"].items() <= spec["definition"].items()
    assert all(re.search(spec["pattern"], queue) for queue in QUEUES.values())
    set_aside = spec["definition"]["dead-letter-exchange"]
    assert get("production", "Binding", set_aside)["spec"]["source"] == set_aside
    assert get("production", "Queue", set_aside)["spec"]["type"] == "quorum"
