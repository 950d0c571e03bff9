"""`POST /orders`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from service_kit.service import Service

MIB = 1_048_576
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
BODY: dict[str, Any] = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "items": [
        {"sku": "laptop", "quantity": 2, "price": 1200.5},
        {"sku": "mouse", "quantity": 1, "price": 0.1},
    ],
}
ORDER = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "status": "pending",
    "total_amount": 2401.1,
    "version": 1,
    "fail_reason": None,
    "cancel_reason": None,
}


def untimed(response: httpx.Response) -> dict[str, Any]:
    """The order in an answer, without its times."""
    order: dict[str, Any] = response.json()
    return {name: value for name, value in order.items() if name not in ("created_at", "updated_at")}


async def rows(connection: asyncpg.Connection) -> tuple[int, int]:
    """How many orders, how many events."""
    record = await connection.fetchrow("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)")
    assert record is not None
    return record[0], record[1]


def is_problem(
    response: httpx.Response, status: int, error_type: str, instance: str = "/orders"
) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] and body["title"] and body["detail"]
    assert (body["status"], body["instance"], body["error_type"]) == (status, instance, error_type)
    return body


async def test_a_new_order_is_created_and_its_event_is_stored_with_it(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    response = await client.post("/orders", json=BODY)

    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert response.headers["location"] == "/orders/o-1"
    assert "idempotent-replayed" not in response.headers
    assert untimed(response) == ORDER
    assert await rows(connection) == (1, 1)


async def test_an_order_tells_when_it_was_created_and_changed(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    order = (await client.post("/orders", json=BODY)).json()

    created_at = await connection.fetchval("SELECT created_at FROM orders")
    assert order["created_at"].endswith("Z")
    assert datetime.fromisoformat(order["created_at"]) == created_at
    assert order["updated_at"] == order["created_at"]


async def test_the_same_order_again_is_replayed_and_makes_no_second_event(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    first = await client.post("/orders", json=BODY)

    again = await client.post("/orders", json=BODY)

    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert (again.content, again.headers["location"]) == (first.content, "/orders/o-1")
    assert await rows(connection) == (1, 1)


async def test_the_same_order_again_is_answered_as_it_stands_now(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await client.post("/orders", json=BODY)
    await connection.execute(
        "UPDATE orders SET status = 'failed', version = 2, fail_reason = 'Too fatty food'"
    )

    again = await client.post("/orders", json=BODY)

    assert untimed(again) == ORDER | {"status": "failed", "version": 2, "fail_reason": "Too fatty food"}


async def test_the_same_order_with_numbers_spelled_otherwise_is_replayed(client: httpx.AsyncClient) -> None:
    await client.post("/orders", json=BODY)

    again = await client.post("/orders", content=json.dumps(BODY).replace("1200.5", "1.20050e3"))

    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")


@pytest.mark.parametrize(
    "change",
    [
        {"customer_id": "c-2"},
        {"items": BODY["items"][:1]},
        {"items": [{"sku": "laptop", "quantity": 2, "price": 1200.5001}]},
    ],
)
async def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(
    client: httpx.AsyncClient, connection: asyncpg.Connection, change: dict[str, Any]
) -> None:
    await client.post("/orders", json=BODY)
    before = await connection.fetch("TABLE orders")

    is_problem(await client.post("/orders", json=BODY | change), 409, "OrderConflict")

    assert await connection.fetch("TABLE orders") == before
    assert await rows(connection) == (1, 1)


async def test_two_hundred_concurrent_posts_of_one_order_make_one_order_and_one_event(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(*(client.post("/orders", json=BODY) for _ in range(200)))

    assert {response.status_code for response in responses} == {201}
    assert {response.content for response in responses} == {responses[0].content}
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert await rows(connection) == (1, 1)


async def test_of_two_hundred_concurrent_contents_one_is_created_and_all_others_conflict(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    bodies = [BODY | {"customer_id": f"c-{number}"} for number in range(200)]

    responses = await asyncio.gather(*(client.post("/orders", json=body) for body in bodies))

    [created] = [response.json() for response in responses if response.status_code == 201]
    for response in responses:
        if response.status_code != 201:
            is_problem(response, 409, "OrderConflict")
    assert await connection.fetchval("SELECT customer_id FROM orders") == created["customer_id"]
    assert await connection.fetchval("SELECT payload ->> 'customer_id' FROM outbox") == created["customer_id"]
    assert await rows(connection) == (1, 1)


BAD_INPUT: list[tuple[bytes, list[list[str | int]]]] = [
    (b"", [["body"]]),
    (b"{", [["body"]]),
    (b"\xff", [["body"]]),
    (b"[]", [["body"]]),
    (b"[" * 100_000, [["body"]]),
    (b"{}", [["body", "order_id"], ["body", "customer_id"], ["body", "items"]]),
    (json.dumps(BODY | {"note": 1}).encode(), [["body", "note"]]),
    (json.dumps(BODY | {"order_id": "a/b"}).encode(), [["body", "order_id"]]),
    (json.dumps(BODY | {"order_id": "a\x00b"}).encode(), [["body", "order_id"]]),
    (json.dumps(BODY | {"order_id": "\ud800"}).encode(), [["body"]]),
    (json.dumps(BODY | {"\ud800": 1}).encode(), [["body"]]),
    (json.dumps(BODY | {"items": []}).encode(), [["body", "items"]]),
    (
        json.dumps(BODY | {"items": [{"sku": "", "quantity": 0, "price": -1}]}).encode(),
        [["body", "items", 0, "sku"], ["body", "items", 0, "quantity"], ["body", "items", 0, "price"]],
    ),
    (json.dumps(BODY).replace("1200.5", "NaN").encode(), [["body"]]),
    (json.dumps(BODY).replace("1200.5", "1e99999999999999999999").encode(), [["body"]]),
    (json.dumps(BODY).replace("1200.5", "1" + "0" * 100_000).encode(), [["body"]]),
    (json.dumps(BODY).replace("1200.5", '"1200.5"').encode(), [["body", "items", 0, "price"]]),
]


async def test_bad_input_is_a_400_that_tells_where_and_what(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    for raw, locations in BAD_INPUT:
        problem = is_problem(await client.post("/orders", content=raw), 400, "ValidationError")

        assert [error["loc"] for error in problem["errors"]] == locations
        assert all(error["msg"] for error in problem["errors"])
    assert await rows(connection) == (0, 0)


async def test_of_very_many_faults_a_bounded_number_is_told(client: httpx.AsyncClient) -> None:
    raw = b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}"

    problem = is_problem(await client.post("/orders", content=raw), 400, "ValidationError")

    assert len(problem["errors"]) == 1_000


async def test_the_content_type_of_a_request_does_not_matter(client: httpx.AsyncClient) -> None:
    for headers in [{}, {"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-8"}]:
        assert (await client.post("/orders", content=json.dumps(BODY), headers=headers)).status_code == 201


async def test_a_body_of_exactly_one_mebibyte_is_taken(client: httpx.AsyncClient) -> None:
    raw = json.dumps(BODY).encode().ljust(MIB)

    assert (await client.post("/orders", content=raw)).status_code == 201


async def test_a_larger_body_is_refused_once_it_is_announced(service: Service) -> None:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"POST /orders HTTP/1.1\r\nhost: test\r\ncontent-length: {MIB + 1}\r\n\r\n".encode())

    status_line = await reader.readline()  # not a byte of the body was sent

    assert b" 413 " in status_line
    writer.close()
    await writer.wait_closed()


async def test_a_larger_body_is_refused_with_a_problem_and_not_stored(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    raw = json.dumps(BODY).encode().ljust(MIB + 1)

    is_problem(await client.post("/orders", content=raw), 413, "PayloadTooLarge")

    assert await rows(connection) == (0, 0)


async def test_a_body_that_grows_too_large_as_it_streams_is_refused(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield json.dumps(BODY).encode()
        for _ in range(20):
            yield b" " * (MIB // 16)

    is_problem(await client.post("/orders", content=chunks()), 413, "PayloadTooLarge")

    assert await rows(connection) == (0, 0)


async def test_a_body_that_comes_in_small_chunks_is_read_as_a_whole(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps(BODY).encode():
            yield bytes([byte])

    assert untimed(await client.post("/orders", content=chunks())) == ORDER


async def test_the_trace_of_the_request_goes_on_in_the_event(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    span_id = "b7ad6b7169203331"

    await client.post("/orders", json=BODY, headers={"traceparent": f"00-{TRACE_ID}-{span_id}-01"})

    version, trace, span, flags = (await connection.fetchval("SELECT traceparent FROM outbox")).split("-")
    assert (version, trace, flags) == ("00", TRACE_ID, "01")
    assert span != span_id


async def test_without_a_valid_trace_a_new_one_begins(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    zeros = "0" * 32
    for number, given in enumerate(
        [None, "", "nonsense", f"00-{zeros}-b7ad6b7169203331-01", f"ff-{TRACE_ID}-b7ad-01"]
    ):
        headers = {} if given is None else {"traceparent": given}
        await client.post("/orders", json=BODY | {"order_id": f"o-{number}"}, headers=headers)

    stored = [record[0] for record in await connection.fetch("SELECT traceparent FROM outbox")]

    assert len(stored) == 5
    for traceparent in stored:
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", traceparent)
        assert TRACE_ID not in traceparent and zeros not in traceparent


async def test_large_and_fine_amounts_are_answered_exactly(client: httpx.AsyncClient) -> None:
    raw = (
        json.dumps(BODY)
        .replace("1200.5", "999999999999.9999")
        .replace('"quantity": 2', '"quantity": 1000000')
    )

    created = await client.post("/orders", content=raw)
    read = await client.get("/orders/o-1")

    assert b'"total_amount":999999999999999900.1,' in created.content
    assert read.content == created.content
