"""The documents against the code that runs, and against what was promised before."""

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from order_service.main import order_service
from order_service.settings import OrderSettings
from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.http.health import Readiness, health_routes
from service_kit.http.metrics_endpoint import metrics_route
from service_kit.inprocess import InProcessBroker
from service_kit.service import ServiceParts
from tools.compatibility import asyncapi_breaks, openapi_breaks
from tools.documents import RELEASED, SERVED, complete_openapi, current, operations, resolved, text_of

NO_DATABASE = "postgresql://nobody@localhost:1/none"
CONSOLE = "/console"
Json = Any


@pytest.mark.parametrize("service", SERVED)
def test_what_is_served_is_what_the_contracts_say(service: str) -> None:
    served = SERVED[service].read_text(encoding="utf-8")

    assert served == text_of(complete_openapi(service)), "run 'make documents'"


@pytest.mark.parametrize("service", SERVED)
def test_each_served_document_is_openapi_3_1(service: str) -> None:
    document = complete_openapi(service)

    validate(document)
    assert document["openapi"].startswith("3.1.")


@pytest.mark.parametrize("service", SERVED)
async def test_each_route_is_documented_and_each_documented_operation_is_a_route(service: str) -> None:
    document = complete_openapi(service)

    assert await served_operations(service) == {
        (method, found) for method, path, _ in operations(document) for found in spelled_out(path, document)
    }


@pytest.mark.parametrize("service", SERVED)
def test_each_body_and_each_answer_has_an_example(service: str) -> None:
    document = complete_openapi(service)

    for method, path, operation in operations(document):
        bodies = [resolved(operation["requestBody"], document)] if "requestBody" in operation else []
        answers = [resolved(answer, document) for answer in operation["responses"].values()]
        for described in (*bodies, *answers):
            for media_type, media in described.get("content", {}).items():
                assert media.get("examples"), (method, path, media_type)


@pytest.mark.parametrize("service", SERVED)
def test_each_operation_tells_every_error_that_all_have(service: str) -> None:
    document = complete_openapi(service)

    for method, path, operation in operations(document):
        told = resolved(operation["responses"]["default"], document)["content"]
        assert "application/problem+json" in told, (method, path)
        if operation.get("security", document["security"]):
            assert {"401", "403", "429"} <= operation["responses"].keys(), (method, path)


@pytest.mark.parametrize("name", sorted(path.stem for path in RELEASED.glob("*.json")))
def test_nothing_that_was_promised_is_broken(name: str) -> None:
    promised = json.loads((RELEASED / f"{name}.json").read_text(encoding="utf-8"))
    breaks = asyncapi_breaks if name == "asyncapi" else openapi_breaks

    assert breaks(promised, current()[name]) == []


def test_every_document_has_a_promise() -> None:
    assert {path.stem for path in RELEASED.glob("*.json")} == current().keys()


Change = Callable[[Json], object]

POST = ("paths", "/orders", "post")
NEW_ORDER = ("components", "schemas", "NewOrder")
ORDER = ("components", "schemas", "Order")


def at(document: Json, *steps: str | int) -> Json:
    for step in steps:
        document = document[step]
    return document


API_BREAKS: dict[str, Change] = {
    "a path is gone": lambda api: api["paths"].pop("/orders/bulk"),
    "a method is gone": lambda api: api["paths"]["/orders"].pop("get"),
    "an answer is gone": lambda api: at(api, *POST, "responses").pop("409"),
    "a header is gone": lambda api: at(api, *POST, "responses", "201", "headers").pop("Location"),
    "a parameter is gone": lambda api: at(api, *POST, "parameters").pop(),
    "a parameter takes less": lambda api: at(api, *POST, "parameters", 0, "schema").update(maximum=5),
    "a parameter is needed": lambda api: at(api, *POST, "parameters", 0).update(required=True),
    "a new parameter is needed": lambda api: at(api, *POST, "parameters").append(
        {"name": "X-New", "in": "header", "required": True, "schema": {"type": "string"}}
    ),
    "a body is needed": lambda api: at(
        api, "paths", "/orders/{order_id}/cancel", "post", "requestBody"
    ).update(required=True),
    "a field is needed": lambda api: at(api, *NEW_ORDER, "required").append("currency"),
    "a field is taken no more": lambda api: at(api, *NEW_ORDER, "properties").pop("customer_id"),
    "a text is shorter": lambda api: at(api, "components", "schemas", "Text").update(maxLength=10),
    "a text has another form": lambda api: at(api, "components", "schemas", "Text").update(
        pattern="^[a-z]*$"
    ),
    "an item is another type": lambda api: at(api, *NEW_ORDER, "properties", "items", "items").update(
        {"$ref": "#/components/schemas/Text"}
    ),
    "a field of an answer is gone": lambda api: at(api, *ORDER, "required").remove("version"),
    "a field of an answer may be null": lambda api: at(api, *ORDER, "properties", "total_amount").update(
        type=["number", "null"]
    ),
    "an answer has a new status": lambda api: at(api, "components", "schemas", "Status", "enum").append(
        "lost"
    ),
}
COMPATIBLE: dict[str, Change] = {
    "nothing": lambda api: None,
    "a path comes": lambda api: api["paths"].update({"/new": api["paths"]["/health"]}),
    "a field comes that may be left out": lambda api: at(api, *NEW_ORDER, "properties").update(
        note={"type": "string"}
    ),
    "a field of an answer comes": lambda api: at(api, *ORDER, "properties").update(note={"type": "string"}),
    "a parameter comes": lambda api: at(api, *POST, "parameters").append(
        {"name": "dry", "in": "query", "schema": {"type": "boolean"}}
    ),
    "a parameter takes more": lambda api: at(api, *POST, "parameters", 0, "schema").update(maximum=60),
    "an error comes": lambda api: at(api, *POST, "responses").update(
        {"410": at(api, *POST)["responses"]["409"]}
    ),
}


@pytest.mark.parametrize("change", API_BREAKS.values(), ids=API_BREAKS)
def test_a_break_of_the_api_is_seen(change: Change) -> None:
    old = complete_openapi("order-service")
    new = copy.deepcopy(old)
    change(new)

    assert openapi_breaks(old, new)


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=COMPATIBLE)
def test_what_harms_nobody_is_no_break(change: Change) -> None:
    old = complete_openapi("order-service")
    new = copy.deepcopy(old)
    change(new)

    assert openapi_breaks(old, new) == []


def payload(events: Json, message: str) -> Json:
    return events["components"]["messages"][message]["payload"]


EVENT_BREAKS: dict[str, Change] = {
    "a channel is gone": lambda events: events["channels"].pop("orderCancelled"),
    "a queue has another name": lambda events: events["channels"]["orderCreatedQueue"].update(
        address="other"
    ),
    "the exchange is another": lambda events: at(
        events, "channels", "orderCreated", "bindings", "amqp", "exchange"
    ).update(type="fanout"),
    "a message is gone": lambda events: events["components"]["messages"].pop("orderProcessed"),
    "a field is not sent any more": lambda events: payload(events, "orderCreated")["required"].remove(
        "amount"
    ),
    "a field is needed of others": lambda events: payload(events, "orderCreatedAccepted")["required"].append(
        "version"
    ),
}


@pytest.mark.parametrize("change", EVENT_BREAKS.values(), ids=EVENT_BREAKS)
def test_a_break_of_the_events_is_seen(change: Change) -> None:
    old = current()["asyncapi"]
    new = copy.deepcopy(old)
    change(new)

    assert asyncapi_breaks(old, new)


async def served_operations(service: str) -> set[tuple[str, str]]:
    async with InProcessBroker() as broker:
        order = order_service(OrderSettings(db_dsn=NO_DATABASE), broker)
        settings = ProcessorSettings(db_dsn=NO_DATABASE)
        policy = configured_policy(settings, Random(1))
        opened = order if service == "order-service" else processor_service(settings, broker, policy)
        async with opened as parts:
            return operations_of(parts)


def operations_of(parts: ServiceParts) -> set[tuple[str, str]]:
    routes = [*parts.routes, *health_routes("", Readiness({})), metrics_route(parts.metrics.registry)]
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in routes
        if isinstance(route, Route) and not route.path.startswith(CONSOLE)
        for method in (route.methods or set()) - {"HEAD"}
    }


def spelled_out(path: str, document: Json) -> list[str]:
    """The path once for each word that a parameter of it may be."""
    paths = [path]
    for given in document["paths"][path].get("parameters", ()):
        parameter = resolved(given, document)
        words = resolved(parameter["schema"], document).get("enum", ())
        if parameter["in"] == "path" and words:
            paths = [found.replace(f"{{{parameter['name']}}}", word) for found in paths for word in words]
    return paths
