"""`POST /orders/bulk`: a result for each order, whatever is among them and however it comes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from service_kit.service import Service
from service_kit.testing.eventually import eventually

NDJSON = "application/x-ndjson"


def order(order_id: str, price: float = 5, **more: Any) -> dict[str, Any]:
    items = [{"sku": "laptop", "quantity": 1, "price": price}]
    return {"order_id": order_id, "customer_id": "c-1", "items": items, **more}


def lines(*orders: Any) -> bytes:
    return b"".join(json.dumps(order).encode() + b"\n" for order in orders)


async def post(client: httpx.AsyncClient, content: Any, **headers: str) -> tuple[int, list[dict[str, Any]]]:
    response = await client.post("/orders/bulk", content=content, headers=headers)
    return response.status_code, results_of(response)


def results_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code in (200, 207), response.text
    if response.headers["content-type"] == NDJSON:
        assert response.text.endswith("\n")
        results = [json.loads(line) for line in response.text.splitlines()]
    else:
        assert response.headers["content-type"] == "application/json"
        results = response.json()
    assert [result["index"] for result in results] == list(range(len(results)))
    return results


async def count(connection: asyncpg.Connection) -> tuple[int, int]:
    """How many orders, how many events."""
    record = await connection.fetchrow("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)")
    assert record is not None
    return record[0], record[1]


async def test_lines_are_answered_by_lines_and_an_array_by_an_array(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    by_lines = await client.post("/orders/bulk", content=lines(order("a"), order("b")))
    by_array = await client.post("/orders/bulk", json=[order("c"), order("d")])

    assert (by_lines.status_code, by_lines.headers["content-type"]) == (200, NDJSON)
    assert (by_array.status_code, by_array.headers["content-type"]) == (200, "application/json")
    results = results_of(by_lines) + results_of(by_array)
    assert [result["order"]["order_id"] for result in results] == ["a", "b", "c", "d"]
    assert all(
        result.keys() == {"index", "status", "order"} and result["status"] == 201 for result in results
    )
    assert results[0]["order"] == (await client.get("/orders/a")).json()
    assert await count(connection) == (4, 4)


@pytest.mark.parametrize("form", ["lines", "array"])
async def test_each_order_has_its_own_result_and_none_harms_another(
    client: httpx.AsyncClient, connection: asyncpg.Connection, form: str
) -> None:
    await client.post("/orders", json=order("there"))
    given = [
        order("a"),
        order("a"),
        order("a", price=6),
        order("", price=0, colour="red"),
        {"order_id": "x"},
        17,
        order("there"),
        order("there", price=6),
        order("b"),
    ]

    status, results = await post(client, lines(*given) if form == "lines" else json.dumps(given))

    assert status == 207
    assert [result["status"] for result in results] == [201, 201, 409, 400, 400, 400, 201, 409, 201]
    assert [result.get("replayed") for result in results] == [None, True, *[None] * 4, True, None, None]
    conflict, invalid = results[2]["problem"], results[3]["problem"]
    assert (conflict["error_type"], conflict["status"], conflict["instance"]) == (
        "OrderConflict",
        409,
        "/orders/bulk",
    )
    assert [error["loc"] for error in invalid["errors"]] == [["body", "colour"]]
    assert all(("order" in result) == (result["status"] == 201) for result in results)
    assert await count(connection) == (3, 3)


async def test_the_same_again_is_answered_alike_and_makes_nothing(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    given = lines(*(order(f"o-{number}") for number in range(600)))
    _, first = await post(client, given)

    status, again = await post(client, given)

    assert status == 200
    assert all(result.pop("replayed") for result in again)
    assert again == first
    assert await count(connection) == (600, 600)


@pytest.mark.parametrize("form", ["lines", "array"])
async def test_ten_thousand_orders_with_duplicates_and_bad_ones_among_them(
    client: httpx.AsyncClient, connection: asyncpg.Connection, form: str
) -> None:
    given = [
        {"order_id": number} if number % 100 == 50 else order(f"o-{number - number % 7 // 6:05}")
        for number in range(10_000)
    ]
    ids = [each["order_id"] for each in given]

    status, results = await post(client, lines(*given) if form == "lines" else json.dumps(given))

    assert status == 207
    statuses = Counter(result["status"] for result in results)
    assert statuses == {201: 9_900, 400: 100}
    for order_id, result in zip(ids, results, strict=True):
        if result["status"] == 201:
            assert result["order"]["order_id"] == order_id
    created = [result for result in results if result["status"] == 201 and "replayed" not in result]
    assert len(created) == len({order_id for order_id in ids if isinstance(order_id, str)})
    assert await count(connection) == (len(created), len(created))


async def test_an_order_too_many_ends_the_request_and_those_before_it_are_there(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    many = [order(f"o-{number}") for number in range(10_005)]
    for content in (lines(*many), json.dumps(many)):
        status, results = await post(client, content)

        assert (status, len(results)) == (207, 10_001)
        assert Counter(result["status"] for result in results) == {201: 10_000, 413: 1}
        assert results[-1]["problem"]["error_type"] == "TooManyOrders"
    assert await count(connection) == (10_000, 10_000)


async def test_exactly_as_many_as_may_be_are_all_taken_with_blank_lines_between_them(
    client: httpx.AsyncClient,
) -> None:
    orders = [json.dumps(order(f"o-{number}")).encode() for number in range(10_000)]
    body = b"\n" + b"\n".join(orders[:100]) + b"\n\n \r\n" + b"\r\n".join(orders[100:]) + b"\n\n"

    status, results = await post(client, body)

    assert (status, len(results)) == (200, 10_000)


@pytest.mark.parametrize("line", ["not JSON", '{"order_id": "a"', "\\ud800", "null", "[1, 2]", "{}" * 3])
async def test_a_line_that_is_no_order_is_that_line_s_fault_alone(
    client: httpx.AsyncClient, line: str
) -> None:
    status, results = await post(client, lines(order("a")) + line.encode() + b"\r\n" + lines(order("b")))

    assert (status, [result["status"] for result in results]) == (207, [201, 400, 201])


async def test_the_last_line_needs_no_newline(client: httpx.AsyncClient) -> None:
    status, results = await post(client, lines(order("a")) + json.dumps(order("b")).encode())

    assert (status, len(results)) == (200, 2)


@pytest.mark.parametrize("content", [b"", b"  \n\n ", b"[]", b" [ ] "])
async def test_a_request_without_orders_is_a_400(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/orders/bulk", content=content)

    assert (response.status_code, response.json()["error_type"]) == (400, "ValidationError")


async def test_an_array_that_breaks_off_is_taken_as_far_as_it_goes(client: httpx.AsyncClient) -> None:
    for rest in (b"", b',{"order_id":"c"', b',"c', b"]]", b"] 1"):
        whole = json.dumps([order("a"), order("b")]).encode()[:-1]
        status, results = await post(
            client, whole + (rest if rest.startswith(b"]") else b"," + rest.lstrip(b","))
        )

        assert status == 207
        assert [result["status"] for result in results] == [201, 201, 400], rest
        assert "not readable" in results[-1]["problem"]["errors"][0]["msg"]


async def test_an_array_that_is_none_is_a_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders/bulk", content=b"[")

    assert (response.status_code, response.json()["error_type"]) == (400, "ValidationError")


@pytest.mark.parametrize("form", ["lines", "array"])
async def test_an_order_that_is_too_long_is_not_kept_and_those_after_it_are_taken(
    client: httpx.AsyncClient, form: str
) -> None:
    given = [order("a"), order("b", note="x" * 1_100_000), order("c")]

    status, results = await post(client, lines(*given) if form == "lines" else json.dumps(given))

    assert (status, [result["status"] for result in results]) == (207, [201, 413, 201])


async def test_a_body_larger_than_it_may_be_is_refused_at_once_or_taken_as_far_as_it_goes(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    announced = await client.post("/orders/bulk", content=b" " * 33_554_433)

    async def streamed() -> AsyncIterator[bytes]:
        yield lines(order("a"))
        for _ in range(33):
            yield lines(order("b", note="x" * 1_040_000))

    status, results = await post(client, streamed())

    assert (announced.status_code, announced.json()["error_type"]) == (413, "PayloadTooLarge")
    assert (status, results[0]["status"]) == (207, 201)
    assert (results[-1]["status"], results[-1]["problem"]["error_type"]) == (413, "PayloadTooLarge")
    assert await count(connection) == (1, 1)


async def test_what_is_told_of_a_fault_is_bounded(client: httpx.AsyncClient) -> None:
    bad = order("a", **{f"{number}" * 5_000: 1 for number in range(100)})

    _, [result] = await post(client, lines(bad))

    assert len(json.dumps(result)) < 3_000


async def test_a_request_that_is_cut_off_leaves_what_was_stored_and_can_be_sent_again(
    service: Service, client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    whole = lines(*(order(f"o-{number}") for number in range(1_000)))
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /orders/bulk HTTP/1.1\r\nhost: x\r\ncontent-length: {len(whole)}\r\n\r\n"
    writer.write(head.encode() + whole[: len(whole) * 3 // 4])
    await writer.drain()

    async def some_are_stored() -> bool:
        return (await count(connection))[0] >= 512

    await eventually(some_are_stored)
    writer.close()
    status, results = await post(client, whole)

    assert (status, len(results)) == (200, 1_000)
    assert any("replayed" in result for result in results)
    assert await count(connection) == (1_000, 1_000)


async def test_two_at_once_with_the_same_orders_create_each_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    given = [order(f"o-{number}") for number in range(1_000)]

    both = await asyncio.gather(post(client, lines(*given)), post(client, lines(*reversed(given))))

    assert [status for status, _ in both] == [200, 200]
    created = sum("replayed" not in result for _, results in both for result in results)
    assert created == 1_000
    assert await count(connection) == (1_000, 1_000)


async def test_single_orders_find_room_beside_large_requests(client: httpx.AsyncClient) -> None:
    bulks = [
        asyncio.create_task(post(client, lines(*(order(f"{name}-{number}") for number in range(2_000)))))
        for name in "abcd"
    ]
    statuses: list[int] = []
    while not all(bulk.done() for bulk in bulks):
        statuses.append((await client.post("/orders", json=order(f"single-{len(statuses)}"))).status_code)
    assert {status for status, _ in await asyncio.gather(*bulks)} == {200}
    assert set(statuses) == {201}


async def test_more_requests_than_may_be_read_at_a_time_are_refused_at_once(
    service: Service, client: httpx.AsyncClient
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    writers = []
    for _ in range(8):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /orders/bulk HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        writers.append(writer)

    async def refused() -> httpx.Response | None:
        response = await client.post("/orders/bulk", content=lines(order("a")))
        return response if response.status_code == 503 else None

    response = await eventually(refused)
    for writer in writers:
        writer.close()

    async def accepted() -> bool:
        return (await client.post("/orders/bulk", content=lines(order("a")))).status_code == 200

    assert response.json()["error_type"] == "Overloaded"
    assert response.headers["retry-after"]
    await eventually(accepted)


async def test_an_order_that_the_database_refuses_is_a_500_of_its_own(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE orders ADD CONSTRAINT odd CHECK (order_id <> 'odd') NOT VALID")
    try:
        with capture_logs() as logged:
            status, results = await post(client, lines(order("a"), order("odd"), order("b")))
    finally:
        await connection.execute("ALTER TABLE orders DROP CONSTRAINT odd")

    assert (status, [result["status"] for result in results]) == (207, [201, 500, 201])
    assert results[1]["problem"]["error_type"] == "InternalServerError"
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["bulk_order_failed"]


async def test_while_the_database_is_away_each_order_is_a_503_and_none_waits_long(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE orders RENAME TO orders_elsewhere")
    try:
        status, results = await post(client, lines(*(order(f"o-{number}") for number in range(1_000)), {}))
    finally:
        await connection.execute("ALTER TABLE orders_elsewhere RENAME TO orders")

    assert status == 207
    assert Counter(result["status"] for result in results) == {503: 1_000, 400: 1}
    assert results[0]["problem"]["error_type"] == "ServiceUnavailable"
    assert (await post(client, lines(order("o-1"))))[0] == 200
