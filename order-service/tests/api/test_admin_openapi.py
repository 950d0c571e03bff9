"""The admin API against its OpenAPI document: every route is in it, and every answer fits."""

from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jsonschema
import pytest
import yaml
from starlette.routing import Route

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.service import Service

KEY = "the-key-of-the-tests"
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "anna"}
LETTER = """
INSERT INTO dead_letter_queue (source, event_key, original_event_type, body, failure_reason, attempts)
VALUES ('consumer', $1, 'order.processed', $2, 'broken', 10) RETURNING id
"""


@pytest.fixture(scope="session")
def document(contracts_folder: Path) -> dict[str, Any]:
    text = (contracts_folder / "openapi-admin.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def settings(dsn: str) -> OrderSettings:
    return OrderSettings(db_dsn=dsn, port=0, shutdown_grace_seconds=5.0, admin_key=KEY)


def operation(document: dict[str, Any], method: str, path: str) -> Any:
    """That of a route, whose path may be one of those that a `{how}` stands for."""
    found = document["paths"].get(path)
    if found is None:
        general = f"{path.rpartition('/')[0]}/{{how}}"
        found = document["paths"][general]
        how = next(given for given in found["parameters"] if given.get("name") == "how")
        assert path.rpartition("/")[2] in how["schema"]["enum"]
    return found[method.lower()]


async def test_every_route_is_in_the_document(
    dsn: str, broker: InProcessBroker, document: dict[str, Any]
) -> None:
    async with order_service(settings(dsn), broker) as parts:
        for route in parts.routes:
            if isinstance(route, Route) and route.path.startswith(("/admin", "/webhooks")):
                for method in (route.methods or set()) - {"HEAD"}:
                    assert operation(document, method, route.path.replace("{endpoint_id}", "{id}"))


async def test_every_answer_fits_the_document(
    dsn: str, broker: InProcessBroker, connection: asyncpg.Connection, document: dict[str, Any]
) -> None:
    order = {"order_id": "o-1", "customer_id": "c", "items": [{"sku": "a", "quantity": 1, "price": 1}]}
    letters = [
        await connection.fetchval(LETTER, f"k{n}", body) for n, body in enumerate((b"{}", b"\xff", b"[]"))
    ]
    broken = await connection.fetchval(LETTER, "malformed:x", b"\x00")
    some, why = {"ids": letters[:1]}, {"reason": "a test"}
    async with (
        Service("order-service", order_service(settings(dsn), broker)) as service,
        httpx.AsyncClient(base_url=service.url, headers=HEADERS, timeout=30) as client,
    ):
        await service.ready()
        assert (await client.post("/orders", json=order)).status_code == 201
        replay = (
            await client.post("/admin/replays", json={"ids": letters[1:2], **why, "per_second": 1})
        ).json()
        at = f"/admin/replays/{replay['id']}"
        url = {"url": "https://8.8.8.8/hooks"}
        hook = f"/webhooks/endpoints/{(await client.post('/webhooks/endpoints', json=url)).json()['id']}"
        hooks = "/webhooks/endpoints/{id}"
        body: dict[str, Any] | None
        for method, path, route, body, status in [
            ("GET", "/admin/state", None, None, 200),
            ("GET", "/admin/dead-letters?limit=2", "/admin/dead-letters", None, 200),
            ("GET", "/admin/dead-letters?limit=0", "/admin/dead-letters", None, 400),
            ("GET", f"/admin/dead-letters/{letters[2]}", "/admin/dead-letters/{id}", None, 200),
            ("GET", f"/admin/dead-letters/{broken}", "/admin/dead-letters/{id}", None, 200),
            ("GET", "/admin/dead-letters/9999999", "/admin/dead-letters/{id}", None, 404),
            ("GET", "/admin/dead-letters/groups", None, None, 200),
            ("POST", "/admin/dead-letters/forecast", None, {"filter": {}}, 200),
            ("POST", "/admin/replays", None, {"ids": letters[2:3], **why}, 201),
            ("POST", "/admin/replays", None, {"ids": [9999999], **why}, 404),
            ("POST", "/admin/replays", None, {"ids": [], **why}, 400),
            ("GET", "/admin/replays", None, None, 200),
            ("GET", at, "/admin/replays/{id}", None, 200),
            ("POST", f"{at}/cancel", "/admin/replays/{id}/cancel", why, 200),
            ("POST", f"{at}/resume", "/admin/replays/{id}/resume", why, 409),
            ("POST", "/admin/replays/999999/pause", "/admin/replays/{id}/pause", why, 404),
            ("POST", "/admin/dead-letters/discard", None, {**some, **why}, 200),
            ("POST", "/admin/dead-letters/discard", None, some, 400),
            ("POST", "/admin/consuming/pause", None, why, 200),
            ("POST", "/admin/consuming/resume", None, why, 200),
            ("GET", "/admin/audit?limit=3", "/admin/audit", None, 200),
            ("GET", "/admin/flow", None, None, 200),
            ("GET", "/admin/orders/stuck?older_than_seconds=0", "/admin/orders/stuck", None, 200),
            ("POST", "/webhooks/endpoints", None, url, 201),
            ("POST", "/webhooks/endpoints", None, {"url": "https://127.0.0.1"}, 400),
            ("GET", "/webhooks/endpoints", None, None, 200),
            ("GET", hook, hooks, None, 200),
            ("GET", "/webhooks/endpoints/999999", hooks, None, 404),
            ("PATCH", hook, hooks, {"event_types": ["order.done"]}, 200),
            ("POST", f"{hook}/rotate", f"{hooks}/rotate", {}, 200),
            ("GET", f"{hook}/deliveries", f"{hooks}/deliveries", None, 200),
            ("POST", f"{hook}/replay", f"{hooks}/replay", {"status": "failed"}, 200),
            ("DELETE", hook, hooks, {"reason": "over"}, 200),
            ("POST", "/admin/reconcile", None, {**why, "order_ids": ["o-1"]}, 200),
        ]:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, (method, path, answer.text)
            validate(document, operation(document, method, route or path), status, answer.json())


def validate(document: dict[str, Any], described: Any, status: int, value: object) -> None:
    response = described["responses"][str(status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    [content] = response["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)
