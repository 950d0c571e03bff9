"""Schemas, examples and documents agree with each other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

HERE = Path(__file__).parent
OPENAPI = sorted(path.name for path in HERE.glob("openapi-*.yaml"))
Json = Any


def examples(kind: str) -> list[str]:
    return sorted(path.stem for path in (HERE / "examples" / kind).glob("*.json"))


def example(kind: str, name: str) -> Json:
    return json.loads((HERE / "examples" / kind / f"{name}.json").read_text())


def message_schema(example_name: str, kind: str) -> Json:
    """The schema of the message that an example's name begins with."""
    return json.loads(schema_file(example_name, kind).read_text())


def schema_file(example_name: str, kind: str) -> Path:
    routing_key = ".".join(example_name.split(".")[:2])
    return HERE / "messages" / f"{routing_key}.{kind}.schema.json"


def fits(value: Json, schema: Json) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize("path", sorted((HERE / "messages").glob("*.json")), ids=lambda path: path.name)
def test_each_schema_is_a_schema(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("name", examples("sent"))
def test_what_we_send_fits_what_we_say_that_we_send_and_what_we_accept(name: str) -> None:
    assert fits(example("sent", name), message_schema(name, "sent"))
    if schema_file(name, "accepted").exists():  # otherwise it is an event that no reader of ours takes
        assert fits(example("sent", name), message_schema(name, "accepted"))


@pytest.mark.parametrize("name", examples("accepted"))
def test_each_lenient_form_is_accepted(name: str) -> None:
    assert fits(example("accepted", name), message_schema(name, "accepted"))


@pytest.mark.parametrize("name", examples("refused"))
def test_what_is_refused_fits_nothing(name: str) -> None:
    assert not fits(example("refused", name), message_schema(name, "accepted"))


@pytest.mark.parametrize("field", ["order_id", "items", "amount", "version", "customer_id"])
def test_a_sent_order_without_one_of_its_fields_is_noticed(field: str) -> None:
    order = example("sent", "order.created")
    del order[field]

    assert not fits(order, message_schema("order.created", "sent"))


def test_a_success_with_a_reason_and_a_failure_without_one_are_noticed() -> None:
    schema = message_schema("order.processed", "sent")

    assert not fits({"order_id": "o", "status": "success", "fail_reason": "why", "version": 2}, schema)
    assert not fits({"order_id": "o", "status": "failed", "fail_reason": None, "version": 2}, schema)


@pytest.mark.parametrize("document", OPENAPI)
def test_each_example_of_an_api_fits_its_schema(document: str) -> None:
    api = yaml.safe_load((HERE / document).read_text())
    checked = 0
    for media in media_types(api):
        schema = media["schema"] | {"components": api["components"]}
        jsonschema.Draft202012Validator.check_schema(schema)
        for shown in media["examples"].values():
            jsonschema.Draft202012Validator(schema).validate(resolved(shown, api)["value"])
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("document", OPENAPI)
def test_each_problem_names_itself_alike_in_all_fields(document: str) -> None:
    api = yaml.safe_load((HERE / document).read_text())
    problems = [
        resolved(shown, api)["value"]
        for media in media_types(api)
        if media["schema"].get("$ref", "").endswith("/Problem")
        for shown in media["examples"].values()
    ]

    assert problems
    for problem in problems:
        assert problem["type"] == f"urn:order-processor:problem:{problem['error_type']}"
        assert problem["title"].lower().replace(" ", "") == problem["error_type"].lower()


@pytest.mark.parametrize("document", OPENAPI)
def test_each_operation_says_how_it_fails(document: str) -> None:
    api = yaml.safe_load((HERE / document).read_text())

    for path in api["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                assert {"operationId", "summary", "responses"} <= operation.keys()
                assert "default" in operation["responses"]


def test_the_events_are_those_of_the_schemas_with_examples_that_fit() -> None:
    document = yaml.safe_load((HERE / "asyncapi.yaml").read_text())
    messages = document["components"]["messages"].values()

    assert sorted(message["payload"]["$ref"] for message in messages) == sorted(
        f"messages/{path.name}" for path in (HERE / "messages").glob("*.json")
    )
    for message in messages:
        schema = json.loads((HERE / message["payload"]["$ref"]).read_text())
        for shown in message["examples"]:
            jsonschema.Draft202012Validator(schema).validate(shown["payload"])


@pytest.mark.parametrize("document", [*OPENAPI, "asyncapi.yaml"])
def test_each_reference_leads_somewhere(document: str) -> None:
    content = yaml.safe_load((HERE / document).read_text())

    for reference in references(content):
        if reference.startswith("#/"):
            resolved({"$ref": reference}, content)
        else:
            assert (HERE / reference).is_file()


def media_types(node: Json) -> Iterator[Json]:
    """Every place that has a schema and examples of it."""
    if isinstance(node, dict):
        if "schema" in node and "examples" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from media_types(child)


def references(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def resolved(node: Json, document: Json) -> Json:
    """The node itself, or what its reference leads to."""
    if "$ref" not in node:
        return node
    for step in node["$ref"].removeprefix("#/").split("/"):
        document = document[step.replace("~1", "/")]
    return document
