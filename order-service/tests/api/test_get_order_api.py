"""`GET /orders/{order_id}`, ids in paths, and everything that is no route."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from order_service.domain.order import OrderId, OrderSummary
from order_service.infrastructure.reader import PostgresReader

IDS = [
    "o-1",
    "заказ №1",
    "🍕",
    "a b",
    "100%",
    "%2F",
    "%00",
    "a?b=c",
    "a#b",
    "a&b;c=d",
    "a+b",
    "'\"<script>",
    ".",
    "..",
    "...",
    "a..b",
    "{order_id}",
    "\\",
    "health",
    "bulk",
    "cancel",
    "x" * 255,
    "я" * 255,
]


def body(order_id: str) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer_id": "c-1",
        "items": [{"sku": "laptop", "quantity": 1, "price": 5}],
    }


def is_problem(response: httpx.Response, status: int, error_type: str, instance: str) -> None:
    problem = response.json()
    assert response.status_code == status, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] and problem["title"] and problem["detail"]
    assert (problem["status"], problem["instance"], problem["error_type"]) == (status, instance, error_type)


async def test_an_order_is_the_same_from_post_and_get(client: httpx.AsyncClient) -> None:
    created = await client.post("/orders", json=body("o-1"))

    read = await client.get("/orders/o-1")

    assert (read.status_code, read.headers["content-type"]) == (200, "application/json")
    assert read.content == created.content


async def test_many_who_look_at_once_get_each_their_own_from_few_statements(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []
    summaries = PostgresReader.summaries

    async def counted(
        reader: PostgresReader, order_ids: Collection[OrderId]
    ) -> Mapping[OrderId, OrderSummary]:
        asked_for.append(len(order_ids))
        await asyncio.sleep(0.1)  # the others come meanwhile
        return await summaries(reader, order_ids)

    monkeypatch.setattr(PostgresReader, "summaries", counted)
    await asyncio.gather(*(client.post("/orders", json=body(f"o-{n}")) for n in range(50)))
    wanted = [f"o-{n % 60}" for n in range(200)]

    answers = await asyncio.gather(*(client.get(f"/orders/{order_id}") for order_id in wanted))

    assert [answer.status_code for answer in answers] == [200 if n % 60 < 50 else 404 for n in range(200)]
    found = [answer.json()["order_id"] for answer in answers if answer.status_code == 200]
    assert found == [order_id for n, order_id in enumerate(wanted) if n % 60 < 50]
    assert sum(asked_for) == 200 and len(asked_for) < 100


async def test_an_order_that_does_not_exist_is_a_404(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/orders/o-1"), 404, "OrderNotFound", "/orders/o-1")


async def test_an_order_is_found_at_its_location_whatever_its_id(client: httpx.AsyncClient) -> None:
    for order_id in IDS:
        created = await client.post("/orders", json=body(order_id))
        assert created.status_code == 201, created.text

        read = await client.get(created.headers["location"])

        assert read.json()["order_id"] == order_id


async def test_the_problem_of_an_unknown_order_names_its_path(client: httpx.AsyncClient) -> None:
    for order_id in IDS:
        path = f"/orders/{quote(order_id, safe='').replace('.', '%2E')}"

        is_problem(await client.get(path), 404, "OrderNotFound", path)


async def test_head_answers_as_get_without_a_body(client: httpx.AsyncClient) -> None:
    await client.post("/orders", json=body("o-1"))

    found, missing = await client.head("/orders/o-1"), await client.head("/orders/o-2")

    assert (found.status_code, found.content) == (200, b"")
    assert int(found.headers["content-length"]) > 0
    assert (missing.status_code, missing.content) == (404, b"")


async def test_an_order_that_the_client_knows_already_is_not_told_again(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await client.post("/orders", json=body("o-1"))
    first = await client.get("/orders/o-1")
    known = {"if-none-match": first.headers["etag"]}

    again, head = (
        await client.get("/orders/o-1", headers=known),
        await client.head("/orders/o-1", headers=known),
    )
    await connection.execute("UPDATE orders SET status = 'done', version = 2")
    changed = await client.get("/orders/o-1", headers=known)

    for response in (again, head):
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == first.headers["etag"]
        assert "content-type" not in response.headers
    assert (changed.status_code, changed.json()["status"]) == (200, "done")
    assert changed.headers["etag"] != first.headers["etag"]


async def test_an_order_that_does_not_exist_is_not_known(client: httpx.AsyncClient) -> None:
    assert (await client.get("/orders/o-1", headers={"if-none-match": "*"})).status_code == 404


async def test_the_items_are_shown_when_they_are_asked_for(client: httpx.AsyncClient) -> None:
    items = [
        {"sku": "🍕", "quantity": 3, "price": 0.1},
        {"sku": "a", "quantity": 1, "price": 999999999999.9999},
    ]
    created = (await client.post("/orders", json=body("o-1") | {"items": items})).json()

    response = await client.get("/orders/o-1?expand=items")

    assert response.json() == created | {"items": items}
    assert b"999999999999.9999" in response.content
    assert (await client.get("/orders/o-1")).json() == created
    assert (await client.get("/orders/o-2?expand=items")).status_code == 404


async def test_a_method_that_a_path_does_not_know_is_a_405_that_names_those_it_knows(
    client: httpx.AsyncClient,
) -> None:
    for method, path, allowed in [
        ("OPTIONS", "/orders", "GET, HEAD, POST"),
        ("PUT", "/orders", "GET, HEAD, POST"),
        ("PROPFIND", "/orders", "GET, HEAD, POST"),
        ("DELETE", "/orders/bulk", "GET, HEAD, POST"),
        ("GET", "/orders/o-1/cancel", "POST"),
        ("HEAD", "/orders/o-1/cancel", "POST"),
        ("POST", "/orders/o-1", "GET, HEAD"),
        ("DELETE", "/orders/o-1", "GET, HEAD"),
        ("OPTIONS", "/orders/o-1", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ]:
        response = await client.request(method, path)

        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        if method != "HEAD":
            is_problem(response, 405, "MethodNotAllowed", path)


async def test_a_path_that_leads_nowhere_is_a_404(client: httpx.AsyncClient) -> None:
    for path in [
        "/",
        "/orders/",
        "/orders/a/b",
        "/orders/a%2Fb",
        "/Orders",
        "/orders/o-1/",
        "/nothing",
        "/docs/",
    ]:
        is_problem(await client.get(path), 404, "NotFound", path)


async def test_a_path_that_cannot_hold_an_id_is_a_400(client: httpx.AsyncClient) -> None:
    for path in ["/orders/%00", "/orders/a%0Ab", "/orders/%7F", "/orders/%FF", "/orders/%ED%A0%80"]:
        is_problem(await client.get(path), 400, "BadRequest", path)


async def test_a_method_that_http_does_not_know_is_a_problem_and_harms_nobody(
    client: httpx.AsyncClient,
) -> None:
    is_problem(await client.request("BREW", "/orders"), 400, "BadRequest", "/")
    assert (await client.post("/orders", json=body("o-1"))).status_code == 201
