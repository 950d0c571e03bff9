"""Messages of other writers: tolerated forms are processed, poison is set aside and harms no neighbour."""

import aio_pika
import pytest

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection
from service_kit.testing.eventually import eventually

POISON = {
    "not JSON": b"{not json",
    "wrong types": b'{"order_id": 7, "items": "none", "version": []}',
    "no object": b'"a string"',
    "two megabytes": b'{"order_id": "large", "items": ["' + b"x" * 2_000_000 + b'"]}',
    "NUL bytes": b"\x00\x00\x00",
    "a NUL character in the id": b'{"order_id": "nul\\u0000", "items": []}',
    "not UTF-8": b'{"order_id": "\xff\xfe", "items": []}',
    "empty": b"",
}


async def publish(deployed: Deployment, routing_key: str, *bodies: bytes, **properties: object) -> None:
    async with await aio_pika.connect(deployed.rabbitmq_url) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange(deployed.name)
        for body in bodies:
            message = aio_pika.Message(body, **properties)  # type: ignore[arg-type]
            await exchange.publish(message, routing_key, mandatory=True)


async def test_a_message_with_bare_skus_and_without_version_and_id_is_processed(deployed: Deployment) -> None:
    await deployed.start_processor_service()

    await publish(deployed, "order.created", b'{"order_id": "by-hand", "items": ["laptop", "mouse"]}')

    async def states() -> list[tuple[object, ...]]:
        rows = await deployed.processor_rows("SELECT order_id, version, status FROM processing_states")
        return [tuple(row) for row in rows]

    assert await eventually(states) == [("by-hand", 1, "done")]


async def test_an_array_of_events_with_numbers_as_floats_and_unknown_fields_is_processed(
    deployed: Deployment,
) -> None:
    await deployed.start_processor_service()
    array = (
        b'[{"order_id":"a","items":[{"sku":"x","quantity":1.0,"price":1200.0,"colour":"red"}],"version":1.0},'
        b' {"order_id":"b","items":["potato"],"version":3,"added_later":{"deep":[1]}}, 17]'
    )

    await publish(deployed, "order.created", array)

    async def states() -> list[tuple[object, ...]] | None:
        query = "SELECT order_id, version, fail_reason FROM processing_states ORDER BY order_id"
        rows = [tuple(row) for row in await deployed.processor_rows(query)]
        return rows if len(rows) == 2 else None

    assert await eventually(states) == [("a", 1, None), ("b", 3, "Too fatty food")]
    letters = await deployed.processor_rows("SELECT body FROM dead_letter_queue")
    assert [letter["body"] for letter in letters] == [b"17"]


async def test_poison_is_set_aside_with_reason_and_bytes_and_its_neighbours_are_handled(
    deployed: Deployment,
) -> None:
    await deployed.start_processor_service()
    good = [b'{"order_id": "good-%d", "items": ["laptop"]}' % number for number in range(100)]
    bodies = list(good)
    for place, poison in enumerate(POISON.values()):
        bodies.insert(place * 12 + 3, poison)

    await publish(deployed, "order.created", *bodies, headers={"origin": "elsewhere", "count": 3})

    async def counts() -> bool:
        states = await deployed.processor_rows("SELECT count(*) FROM processing_states WHERE status = 'done'")
        letters = await deployed.processor_rows("SELECT count(*) FROM dead_letter_queue")
        return (states[0][0], letters[0][0]) == (100, len(POISON))

    await eventually(counts)
    letters = await deployed.processor_rows(
        "SELECT body, failure_reason, headers->>'origin' AS origin FROM dead_letter_queue"
    )
    assert {letter["body"] for letter in letters} == set(POISON.values())
    assert all(letter["failure_reason"] and letter["origin"] == "elsewhere" for letter in letters)


async def test_a_result_for_an_order_that_nobody_knows_waits_for_another_attempt(
    deployed: Deployment,
) -> None:
    await deployed.start_order_service()

    await publish(deployed, "order.processed", b'{"order_id":"ghost","status":"success","version":2}')

    async def waiting() -> bool:
        rows = await deployed.order_rows("SELECT event_key, last_error FROM retry_queue")
        return [tuple(row) for row in rows] == [("order.processed:ghost:2", "there is no such order")]

    await eventually(waiting)
    assert (await deployed.order_rows("SELECT count(*) FROM processed_inbox"))[0][0] == 0


@pytest.mark.parametrize("status", ["perhaps", None])
async def test_a_result_with_an_unknown_status_is_set_aside_and_the_order_stays_pending(
    deployed: Deployment, status: str | None
) -> None:
    service = await deployed.start_order_service()
    connection = HttpConnection(service.url)
    await connection.request(
        "POST", "/orders", b'{"order_id":"o","customer_id":"c","items":[{"sku":"s","quantity":1,"price":1}]}'
    )
    value = b'"%s"' % status.encode() if status else b"null"

    await publish(deployed, "order.processed", b'{"order_id":"o","status":%s,"version":2}' % value)

    await eventually(lambda: deployed.order_rows("SELECT 1 FROM dead_letter_queue"))
    assert (await connection.request("GET", "/orders/o")).json()["status"] == "pending"
    connection.close()


async def test_a_late_and_a_repeated_result_change_nothing(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    connection = HttpConnection(service.url)
    await connection.request(
        "POST", "/orders", b'{"order_id":"o","customer_id":"c","items":[{"sku":"s","quantity":1,"price":1}]}'
    )
    first = b'{"order_id":"o","status":"failed","fail_reason":"first","version":3}'
    others = (
        first,
        b'{"order_id":"o","status":"success","fail_reason":null,"version":2}',
        b'{"order_id":"o","status":"success","fail_reason":null,"version":3}',
        b'{"order_id":"o","status":"success","fail_reason":null,"version":9}',
    )

    await publish(deployed, "order.processed", first, *others)

    await eventually(lambda: _inbox_has(deployed, 3))
    order = (await connection.request("GET", "/orders/o")).json()
    assert (order["status"], order["version"], order["fail_reason"]) == ("failed", 3, "first")
    connection.close()


async def _inbox_has(deployed: Deployment, count: int) -> bool:
    return bool((await deployed.order_rows("SELECT count(*) FROM processed_inbox"))[0][0] == count)
