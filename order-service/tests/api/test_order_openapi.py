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
    if component == "BulkResults":
        schema = {"type": "array", "items": {"$ref": "#/components/schemas/BulkResult"}}
    else:
        schema = {"$ref": f"#/components/schemas/{component}"}
    schema |= {"components": document["components"]}
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
        ("GET", "/orders/o-1?expand=items", None, 200, "Order"),
        ("GET", "/orders", None, 200, "Page"),
        ("GET", "/orders?limit=1&status=pending&customer_id=c-1", None, 200, "Page"),
        ("GET", "/orders?limit=0", None, 400, "Problem"),
        ("POST", "/orders/o-1/cancel", {"reason": "changed my mind"}, 200, "Order"),
        ("POST", "/orders/o-1/cancel", None, 200, "Order"),
        ("POST", "/orders/o-2/cancel", None, 404, "Problem"),
        ("POST", "/orders/o-1/cancel", {"reason": ""}, 400, "Problem"),
        ("POST", "/orders/bulk", [BODY, BODY | {"order_id": "o-3"}], 200, "BulkResults"),
        ("POST", "/orders/bulk", [BODY, {}, BODY | {"customer_id": "c-2"}], 207, "BulkResults"),
        ("POST", "/orders/bulk", [], 400, "Problem"),
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
    def examples(path: str, media_type: str) -> list[Any]:
        content = openapi["paths"][path]["post"]["requestBody"]["content"][media_type]
        return [example["value"] for example in content["examples"].values()]

    for order in examples("/orders", "application/json"):
        assert (await client.post("/orders", json=order)).status_code == 201
    await client.post("/orders", json=BODY)
    for orders in examples("/orders/bulk", "application/json"):
        assert (await client.post("/orders/bulk", json=orders)).json()[0]["status"] in (201, 409)
    for lines in examples("/orders/bulk", "application/x-ndjson"):
        assert (await client.post("/orders/bulk", content=lines)).text.count('"status":400') == 0
    for cancellation in examples("/orders/{order_id}/cancel", "application/json"):
        assert (await client.post("/orders/o-1/cancel", json=cancellation)).status_code == 200
