"""Orders by signed tokens instead of keys, of an issuer that tells its keys over HTTP."""

from collections.abc import AsyncIterator
from time import time
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.http.application import application
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role
from service_kit.http.server import http_server
from service_kit.inprocess import InProcessBroker
from service_kit.observability.metrics import Metrics
from service_kit.service import Service
from service_kit.testing.tokens import TokenIssuer

ISSUER = TokenIssuer("https://login.example/", "orders")


@pytest.fixture
async def client(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    """Of a service that listens on all addresses and has no key: it would not start without tokens."""

    async def keys(_: Request) -> Response:
        return JSONResponse(ISSUER.key_set())

    application_of_issuer = application([Route("/keys", Endpoint(keys, Role.ANYBODY))], metrics=Metrics())
    async with http_server(application_of_issuer, "127.0.0.1", 0) as issuer:
        settings = OrderSettings(
            db_dsn=dsn,
            host="0.0.0.0",
            port=0,
            shutdown_grace_seconds=5.0,
            jwt_issuer=ISSUER.name,
            jwt_audience=ISSUER.audience,
            jwt_jwks_url=f"{issuer.url}/keys",
        )
        async with (
            Service("order-service", order_service(settings, broker)) as service,
            httpx.AsyncClient(base_url=service.url.replace("0.0.0.0", "127.0.0.1"), timeout=30) as client,
        ):
            await service.ready()
            yield client


def bearing(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {ISSUER.token(sub='shop', exp=time() + 600, **claims)}"}


def order(order_id: str, customer_id: str) -> dict[str, Any]:
    items = [{"sku": "laptop", "quantity": 1, "price": 5}]
    return {"order_id": order_id, "customer_id": customer_id, "items": items}


async def test_a_token_restricted_to_customers_knows_no_orders_of_others(client: httpx.AsyncClient) -> None:
    everything = bearing(scope="orders:read orders:write")
    restricted = bearing(scope="orders:read orders:write", customers=["c-1"])
    for order_id, customer_id in (("o-1", "c-1"), ("o-2", "c-2")):
        answer = await client.post("/orders", json=order(order_id, customer_id), headers=everything)
        assert answer.status_code == 201, answer.text

    listed = await client.get("/orders", headers=restricted)
    assert [one["order_id"] for one in listed.json()["data"]] == ["o-1"]
    seen = [(await client.get(f"/orders/{one}", headers=restricted)).status_code for one in ("o-1", "o-2")]
    assert seen == [200, 404]
    sent = await client.post("/orders", json=order("o-3", "c-2"), headers=restricted)
    assert sent.status_code == 403


async def test_an_admin_by_token_has_a_name_in_the_audit_log(client: httpx.AsyncClient) -> None:
    body = {"name": "robot", "roles": ["orders:read"], "reason": "a new robot"}

    made = await client.post("/admin/keys", json=body, headers=bearing(roles=["admin"]))
    assert made.status_code == 201, made.text

    entry, *_ = (await client.get("/admin/audit", headers=bearing(scope="admin"))).json()["entries"]
    assert entry["operator"] == "token shop"
    assert (await client.get("/admin/audit", headers=bearing(scope="orders:read"))).status_code == 403
