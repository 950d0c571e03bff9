"""What the API answers, against its OpenAPI document."""

from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

BODY = {"order_id": "o-1", "customer_id": "c-1", "items": [{"sku": "laptop", "quantity": 1, "price": 5}]}


@pytest.fixture(scope="session")
def openapi(contracts_folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(
        (contracts_folder / "openapi-order-service.yaml").read_text(encoding="utf-8")
    )
    return document


def validate(document: dict[str, Any], component: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{component}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


async def test_every_answer_fits_the_document(client: httpx.AsyncClient, openapi: dict[str, Any]) -> None:
    for method, path, body, status, component in [
        ("POST", "/orders", BODY, 201, "Order"),
        ("POST", "/orders", BODY, 201, "Order"),
        ("POST", "/orders", BODY | {"customer_id": "c-2"}, 409, "Problem"),
        ("POST", "/orders", {"order_id": 1}, 400, "Problem"),
        ("GET", "/orders/o-1", None, 200, "Order"),
        ("GET", "/orders/o-2", None, 404, "Problem"),
        ("GET", "/orders/%FF", None, 400, "Problem"),
        ("GET", "/health", None, 200, "Health"),
        ("GET", "/ready", None, 200, "Readiness"),
        ("GET", "/nothing", None, 404, "Problem"),
        ("PUT", "/orders", None, 405, "Problem"),
    ]:
        response = await client.request(method, path, json=body)

        assert response.status_code == status, (method, path, response.text)
        validate(openapi, component, response.json())


async def test_what_the_document_calls_an_order_is_taken(
    client: httpx.AsyncClient, openapi: dict[str, Any]
) -> None:
    content = openapi["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]

    for example in content["examples"].values():
        assert (await client.post("/orders", json=example["value"])).status_code == 201
