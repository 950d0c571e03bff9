"""Cancelling, listing, waiting and sending in bulk, with two instances and a real broker."""

import asyncio
import os
from collections import Counter
from random import Random

import httpx
import msgspec

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection
from acceptance.load import SteadyLoad, order_body, post_all
from service_kit.testing.eventually import eventually

RACES = int(os.environ.get("ACCEPTANCE_RACES", "200"))
DECIDED = "SELECT count(*) FROM processing_states"
STATUSES = "SELECT order_id, status, version FROM orders"


async def test_of_each_cancellation_and_the_decision_in_flight_exactly_one_wins(deployed: Deployment) -> None:
    """And both services, every client and the events agree about which."""
    services = [await deployed.start_order_service() for _ in range(2)]
    for _ in range(2):
        await deployed.start_processor_service()
    random = Random(1)

    async def race(number: int) -> tuple[str, set[int]]:
        one, other = (HttpConnection(service.url) for service in services)
        order_id = f"race-{number}"
        assert (await one.request("POST", "/orders", order_body(order_id))).status == 201
        await asyncio.sleep(random.uniform(0, 0.06))
        answers = await asyncio.gather(
            *(connection.request("POST", f"/orders/{order_id}/cancel") for connection in (one, other))
        )
        one.close()
        other.close()
        return order_id, {answer.status for answer in answers}

    outcomes = [
        outcome
        for start in range(0, RACES, 20)
        for outcome in await asyncio.gather(*(race(number) for number in range(start, start + 20)))
    ]

    async def all_are_decided() -> bool:
        return bool((await deployed.processor_rows(DECIDED))[0][0] == RACES)

    await eventually(all_are_decided)
    await deployed.settled()

    stored = {row["order_id"]: (row["status"], row["version"]) for row in await deployed.order_rows(STATUSES)}
    for order_id, statuses in outcomes:
        status, version = stored[order_id]
        assert (version, statuses) == (2, {200} if status == "cancelled" else {409}), order_id
    assert {status for status, _ in stored.values()} <= {"done", "cancelled"}
    for rows in (deployed.order_rows, deployed.processor_rows):
        assert (await rows("SELECT count(*) FROM dead_letter_queue"))[0][0] == 0
        assert (await rows("SELECT count(*) FROM retry_queue"))[0][0] == 0


async def test_who_waits_is_answered_whichever_instance_gets_the_decision(deployed: Deployment) -> None:
    services = [await deployed.start_order_service() for _ in range(2)]
    await deployed.start_processor_service()

    async def post(number: int) -> tuple[int, str]:
        connection = HttpConnection(services[number % 2].url)
        body = order_body(f"order-{number}")
        answer = await connection.request("POST", "/orders?wait=30", body)
        connection.close()
        return answer.status, answer.json()["status"]

    assert Counter(await asyncio.gather(*(post(number) for number in range(100)))) == {(201, "done"): 100}


async def test_a_walk_through_the_list_sees_each_old_order_once_while_others_arrive(
    deployed: Deployment,
) -> None:
    services = [await deployed.start_order_service() for _ in range(2)]
    await deployed.start_processor_service()
    urls = [service.url for service in services]
    await post_all(
        urls, (order_body(f"old-{number}", customer_id=f"cust-{number % 3}") for number in range(2_000))
    )
    clock = asyncio.get_running_loop().time

    load = SteadyLoad(urls[0], per_second=2_000, prefix="new")  # and what an answer takes, which makes 1,000
    arriving = asyncio.create_task(load.run(connections=64))
    await eventually(lambda: load.accepted)
    started, before = clock(), len(load.accepted)
    everything = [await walk(urls, query) for query in ("limit=100", "limit=7")]
    of_one = await walk(urls, "limit=20&customer_id=cust-1")
    arrived, seconds = len(load.accepted) - before, clock() - started
    load.stop()
    await arriving

    print(f"{arrived} orders arrived while {seconds:.1f} s of walking, {arrived / seconds:.0f}/s")
    assert arrived and not load.refused
    for walked, wanted in [*((walked, range(2_000)) for walked in everything), (of_one, range(1, 2_000, 3))]:
        old = [order_id for order_id in walked if order_id.startswith("old-")]
        assert sorted(old) == sorted(f"old-{number}" for number in wanted)
        assert len(walked) == len(set(walked))


async def walk(urls: list[str], query: str) -> list[str]:
    """Each page from the other instance than the one before."""
    connections = [HttpConnection(url) for url in urls]
    walked: list[str] = []
    page, cursor = {"has_more": True}, ""
    while page["has_more"]:
        connections.reverse()
        page = (await connections[0].request("GET", f"/orders?{query}{cursor}")).json()
        walked += [order["order_id"] for order in page["data"]]
        cursor = f"&starting_after={walked[-1]}"
    for connection in connections:
        connection.close()
    return walked


async def test_ten_thousand_orders_in_one_request_become_final(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    await deployed.start_processor_service()
    body = b"\n".join(order_body(f"order-{number}") for number in range(10_000))

    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        response = await client.post("/orders/bulk", content=body)
    await deployed.settled(seconds=90)

    results = [msgspec.json.decode(line) for line in response.content.splitlines()]
    assert (response.status_code, len(results)) == (200, 10_000)
    final = await deployed.order_rows("SELECT status, version, count(*) FROM orders GROUP BY 1, 2")
    assert [tuple(row) for row in final] == [("done", 2, 10_000)]
