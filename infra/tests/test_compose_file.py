"""What the compose file promises, as far as it can be read from it; `make compose-test` runs it."""

import json
import re
from typing import Any

import pytest
import yaml

from infra.checks.engine import FOLDER

COMPOSE = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORTS = {
    "rabbitmq": [
        "127.0.0.1:${RABBITMQ_PORT:-5672}:5672",
        "127.0.0.1:${RABBITMQ_MANAGEMENT_PORT:-15672}:15672",
    ],
    "order-db": ["127.0.0.1:${ORDER_DB_PORT:-5433}:5432"],
    "processor-db": ["127.0.0.1:${PROCESSOR_DB_PORT:-5434}:5432"],
    "order-service": ["${ORDER_PORT:-8000}:8000"],
    "processor-service": ["127.0.0.1:${PROCESSOR_PORT:-8001}:8001"],
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_named_after_its_service(name: str) -> None:
    assert SERVICES[name]["container_name"] == f"order_processor-{name}"


@pytest.mark.parametrize(("name", "ports"), PORTS.items())
def test_ports_are_those_of_the_readme_and_only_the_api_is_open_to_others(
    name: str, ports: list[str]
) -> None:
    assert SERVICES[name]["ports"] == ports


@pytest.mark.parametrize("name", ["order-service", "processor-service"])
def test_a_service_is_not_killed_while_it_drains(name: str) -> None:
    service = SERVICES[name]
    grace_seconds = int(service["stop_grace_period"].removesuffix("s"))

    assert grace_seconds > int(service["environment"]["APP__SHUTDOWN_GRACE_SECONDS"])


@pytest.mark.parametrize("name", ["order", "processor"])
def test_a_service_waits_for_its_migrations(name: str) -> None:
    waits = SERVICES[f"{name}-service"]["depends_on"][f"{name}-migrations"]

    assert waits == {"condition": "service_completed_successfully"}


def test_each_variable_has_a_default_and_a_line_in_the_example() -> None:
    text = (FOLDER / "docker-compose.yml").read_text()
    example = (FOLDER / ".env.example").read_text()

    with_default = dict(re.findall(r"\$\{(\w+):-(\w+)\}", text))
    assert len(re.findall(r"\$\{", text)) == len(re.findall(r"\$\{\w+:-\w+\}", text))
    assert {f"{name}={value}" for name, value in with_default.items()} <= set(example.splitlines())


def test_the_limits_apply_to_both_queues_and_to_no_other() -> None:
    definitions = json.loads((FOLDER / "rabbitmq" / "definitions.json").read_text())
    [policy] = definitions["policies"]

    for queue in ("order-service.order.processed", "processor-service.order.created"):
        assert re.search(policy["pattern"], queue)
    assert not re.search(policy["pattern"], "orders.set-aside")
    assert policy["definition"]["overflow"] == "reject-publish"
