"""Webhooks on the whole service: registered, delivered to real receivers, retried, rotated, replayed."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
from standardwebhooks import Webhook

from order_service.application.webhooks import Answer, Delivery
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.webhook_cleaner import WebhookCleaner
from order_service.infrastructure.webhook_delivery import WebhookDispatcher, WebhookFanOut
from order_service.infrastructure.webhook_sender import WebhookSender
from order_service.infrastructure.webhook_store import PostgresWebhooks
from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.service import Service
from service_kit.testing.eventually import eventually
from service_kit.testing.hostile_receiver import (
    HostileReceiver,
    Reaction,
    ReceivedRequest,
    hostile_receiver,
)

KEY = "an-admin-key-of-the-tests"
ENDPOINTS = "/webhooks/endpoints"


@asynccontextmanager
async def instance(dsn: str, *, allow_private: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    settings = OrderSettings(
        db_dsn=dsn, port=0, admin_key=KEY, webhooks_allow_private=allow_private, shutdown_grace_seconds=5.0
    )
    headers = {"authorization": f"Bearer {KEY}", "x-operator": "anna"}
    async with (
        InProcessBroker() as broker,
        Service("order-service", order_service(settings, broker)) as service,
    ):
        await service.ready()
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as client:
            yield client


@pytest.fixture
async def client(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with instance(dsn) as client:
        yield client


@pytest.fixture
async def receiver() -> AsyncIterator[HostileReceiver]:
    async with hostile_receiver() as receiver:
        yield receiver


async def post(client: httpx.AsyncClient, *order_ids: str, customer_id: str = "c-1") -> None:
    for order_id in order_ids:
        items = [{"sku": "laptop", "quantity": 1, "price": 5}]
        body = {"order_id": order_id, "customer_id": customer_id, "items": items}
        assert (await client.post("/orders", json=body)).status_code == 201


async def register(client: httpx.AsyncClient, url: str, **wanted: object) -> Any:
    answer = await client.post(ENDPOINTS, json={"url": url, **wanted})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def deliveries(client: httpx.AsyncClient, endpoint: Any, **query: str) -> list[Any]:
    answer = await client.get(f"{ENDPOINTS}/{endpoint['id']}/deliveries", params=query)
    found: list[Any] = answer.json()["deliveries"]
    return found


async def received(receiver: HostileReceiver, count: int) -> Sequence[ReceivedRequest]:
    await eventually(lambda: len(receiver.requests) >= count)
    return receiver.requests


async def settled(client: httpx.AsyncClient, endpoint: Any, status: str, count: int = 1) -> list[Any]:
    async def are_settled() -> list[Any] | None:
        found = await deliveries(client, endpoint, status=status)
        return found if len(found) == count else None

    return await eventually(are_settled)


def orders_of(requests: Sequence[ReceivedRequest]) -> set[str]:
    return {json.loads(request.body)["data"]["order_id"] for request in requests}


async def test_an_order_is_told_of_with_a_signature_that_verifies(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    endpoint = await register(client, receiver.url)
    await post(client, "o-1")
    await client.post("/orders/o-1/cancel")

    requests = await received(receiver, 2)

    told = {}
    for request in requests:
        body = Webhook(endpoint["secret"]).verify(request.body, dict(request.headers))
        told[body["type"]] = body["data"]
    order = (await client.get("/orders/o-1")).json()
    assert told.keys() == {"order.created", "order.cancelled"}
    assert told["order.cancelled"] == order
    assert len(await settled(client, endpoint, "delivered", 2)) == 2


async def test_poll_stream_and_webhook_say_the_same(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    await register(client, receiver.url)
    async with client.stream("GET", "/events") as stream:
        lines = stream.aiter_lines()
        await post(client, "o-1")
        async for line in lines:
            if line.startswith("data: "):
                streamed = line.removeprefix("data: ")
                break
    [request] = await received(receiver, 1)
    assert request.body.decode() == streamed
    assert json.loads(streamed)["data"] == (await client.get("/orders/o-1")).json()


async def test_an_endpoint_is_told_of_what_it_asked_for_and_of_what_comes_after_it(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    await post(client, "before")
    await asyncio.sleep(1.5)  # until it is in the log for good
    await register(client, f"{receiver.url}/theirs", customer_ids=["c-2"])
    await register(client, f"{receiver.url}/ends", event_types=["order.cancelled"])
    await register(client, f"{receiver.url}/all")
    await post(client, "o-1")
    await post(client, "o-2", customer_id="c-2")
    await client.post("/orders/o-1/cancel")
    requests = await received(receiver, 5)
    by_path: dict[str, list[str]] = {}
    for request in requests:
        body = json.loads(request.body)
        by_path.setdefault(request.path, []).append(f"{body['type']} {body['data']['order_id']}")
    assert {path: sorted(told) for path, told in by_path.items()} == {
        "/hooks/theirs": ["order.created o-2"],
        "/hooks/ends": ["order.cancelled o-1"],
        "/hooks/all": ["order.cancelled o-1", "order.created o-1", "order.created o-2"],
    }


async def test_a_secret_is_shown_once_and_rotated_with_an_overlap(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    endpoint = await register(client, receiver.url)
    path = f"{ENDPOINTS}/{endpoint['id']}"
    assert endpoint["secret"].startswith("whsec_")
    assert "secret" not in (await client.get(path)).text.replace("previous_secret_until", "")

    rotated = (await client.post(f"{path}/rotate", json={"overlap_seconds": 3600})).json()
    assert rotated["secret"] != endpoint["secret"]
    await post(client, "o-1")
    [request] = await received(receiver, 1)
    for secret in (endpoint["secret"], rotated["secret"]):
        Webhook(secret).verify(request.body, dict(request.headers))

    again = (await client.post(f"{path}/rotate", json={"overlap_seconds": 0})).json()
    await post(client, "o-2")
    request = (await received(receiver, 2))[1]
    Webhook(again["secret"]).verify(request.body, dict(request.headers))
    assert request.headers["webhook-signature"].count("v1,") == 1


async def test_a_failed_delivery_is_tried_again_by_the_same_id_and_with_a_new_time(
    client: httpx.AsyncClient, receiver: HostileReceiver, connection: asyncpg.Connection
) -> None:
    answers = [Reaction(status=500), Reaction(resets=True), Reaction(status=302)]
    receiver.react = lambda _: answers.pop(0) if answers else Reaction()
    endpoint = await register(client, receiver.url)
    await post(client, "o-1")
    words = []
    for attempt in range(1, 4):

        async def has_failed(attempt: int = attempt) -> Any:
            found = await deliveries(client, endpoint)
            return next((one for one in found if one["attempts"] >= attempt), None)

        words.append((await eventually(has_failed))["last_error"])
        await connection.execute("UPDATE webhook_deliveries SET due_at = now() WHERE attempts = $1", attempt)
    [delivery] = await settled(client, endpoint, "delivered")
    assert (delivery["attempts"], delivery["answered"], delivery["last_error"]) == (4, 204, None)
    assert words[0] == "it answered 500"
    assert words[2] == "it answered 302; redirects are not followed"
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_the_time_that_an_endpoint_asks_for_is_given(
    client: httpx.AsyncClient, receiver: HostileReceiver, connection: asyncpg.Connection
) -> None:
    receiver.react = lambda _: Reaction(status=429, headers={"retry-after": "7200"})
    endpoint = await register(client, receiver.url)
    await post(client, "o-1")

    async def has_failed() -> bool:
        return any(one["attempts"] for one in await deliveries(client, endpoint))

    await eventually(has_failed)
    left = await connection.fetchval(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM webhook_deliveries"
    )
    assert 7_000 < left <= 7_200


async def test_after_the_last_attempt_a_delivery_has_failed_and_can_be_replayed(
    client: httpx.AsyncClient, receiver: HostileReceiver, connection: asyncpg.Connection
) -> None:
    receiver.react = lambda _: Reaction(status=500)
    endpoint = await register(client, receiver.url)
    await post(client, "o-1")
    await received(receiver, 1)
    await connection.execute("UPDATE webhook_deliveries SET attempts = 9, due_at = now()")
    await settled(client, endpoint, "failed")

    receiver.react = lambda _: Reaction()
    answer = await client.post(f"{ENDPOINTS}/{endpoint['id']}/replay", json={"status": "failed"})
    assert answer.json() == {"replayed": 1}
    await settled(client, endpoint, "delivered")
    answer = await client.post(f"{ENDPOINTS}/{endpoint['id']}/replay", json={"status": "failed"})
    assert answer.json() == {"replayed": 0}
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_an_endpoint_that_is_gone_is_disabled_and_can_be_enabled_again(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    receiver.react = lambda _: Reaction(status=410)
    endpoint = await register(client, receiver.url)
    path = f"{ENDPOINTS}/{endpoint['id']}"
    await post(client, "o-1")
    await settled(client, endpoint, "failed")
    shown = (await client.get(path)).json()
    assert (shown["enabled"], shown["disabled_because"]) == (False, "it answered 410")
    await post(client, "while it was disabled")
    await asyncio.sleep(1.5)

    receiver.react = lambda _: Reaction()
    shown = (await client.patch(path, json={"enabled": True})).json()
    assert (shown["enabled"], shown["disabled_because"]) == (True, None)
    await post(client, "o-3")
    [delivery] = await settled(client, endpoint, "delivered")
    assert delivery["order_id"] == "o-3"


async def test_endpoints_that_hang_or_fail_delay_no_others(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    """Each has many deliveries due, more than any endpoint may have in hand."""
    async with hostile_receiver() as hanging, hostile_receiver() as failing:
        hanging.react = lambda _: Reaction(hangs=True)
        failing.react = lambda _: Reaction(status=500, body_bytes=10 * 1024 * 1024)
        for url in (hanging.url, failing.url, receiver.url):
            await register(client, url)
        order_ids = {f"o-{number}" for number in range(30)}
        await post(client, *sorted(order_ids))
        assert orders_of(await received(receiver, 30)) == order_ids
        assert len(hanging.requests) <= 4


async def test_intake_goes_on_while_receivers_hang(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    receiver.react = lambda _: Reaction(hangs=True)
    for number in range(40):
        await register(client, f"{receiver.url}/{number}")
    await post(client, "o-1")
    await received(receiver, 40)
    await post(client, *(f"while they hang {number}" for number in range(50)))
    assert (await client.get("/ready")).status_code == 200


class CountingSender:
    def __init__(self, sender: WebhookSender) -> None:
        self._sender = sender
        self.sent: list[str] = []

    async def send(self, delivery: Delivery) -> Answer:
        self.sent.append(delivery.message_id)
        return await self._sender.send(delivery)


async def dispatcher(
    database: Database, sender: CountingSender, lease_seconds: float = 60.0
) -> WebhookDispatcher:
    """Of a process that knows the endpoints."""
    webhooks, written = PostgresWebhooks(database), Wakeup()
    fan_out = WebhookFanOut(database, webhooks, lambda _: b"", written=written)
    fan_out.subscriptions = await webhooks.subscriptions()
    return WebhookDispatcher(
        webhooks,
        sender,
        fan_out,
        written=written,
        metrics=OrderMetrics(),
        poll_seconds=0.02,
        lease_seconds=lease_seconds,
        random=Random(0),
    )


FILL = """
WITH endpoint AS (
    INSERT INTO webhook_endpoints (url, secret, since) VALUES ($1, 'secret', 0) RETURNING id
)
INSERT INTO webhook_deliveries (endpoint_id, message_id, event_type, order_id, body)
SELECT endpoint.id, 'msg_' || number, 'order.done', 'o', '{}'
FROM endpoint, generate_series(1, $2::int) AS number
"""
STATES = "SELECT status, count(*) FROM webhook_deliveries GROUP BY status"


async def test_two_instances_share_the_work_without_doubling_it(
    database: Database, connection: asyncpg.Connection, receiver: HostileReceiver
) -> None:
    await connection.execute(FILL, receiver.url, 60)
    async with WebhookSender(allow_private=True) as sender:
        counting = [CountingSender(sender) for _ in range(2)]
        both = [await dispatcher(database, counts) for counts in counting]
        tasks = [asyncio.create_task(one.run()) for one in both]

        async def all_delivered() -> bool:
            return dict(map(tuple, await connection.fetch(STATES))) == {"delivered": 60}

        await eventually(all_delivered)
        for one in both:
            one.stop()
        await asyncio.gather(*tasks)
    assert all(counts.sent for counts in counting)
    assert sorted(counting[0].sent + counting[1].sent) == sorted(f"msg_{n}" for n in range(1, 61))
    assert len(receiver.requests) == 60


async def test_a_crash_between_sending_and_noting_tells_twice_by_the_same_id(
    database: Database, connection: asyncpg.Connection, receiver: HostileReceiver
) -> None:
    receiver.react = lambda _: Reaction(hangs=True)
    await connection.execute(FILL, receiver.url, 1)
    async with WebhookSender(allow_private=True) as sender:
        counting = CountingSender(sender)
        for _ in range(2):
            one = await dispatcher(database, counting, lease_seconds=3)
            sent = len(receiver.requests)
            task = asyncio.create_task(one.run())
            await received(receiver, sent + 1)
            if not sent:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                receiver.react = lambda _: Reaction()

        async def is_delivered() -> bool:
            return dict(map(tuple, await connection.fetch(STATES))) == {"delivered": 1}

        await eventually(is_delivered)
        one.stop()
        await task
    assert counting.sent == ["msg_1", "msg_1"]
    assert [request.headers["webhook-id"] for request in receiver.requests] == ["msg_1", "msg_1"]


async def test_nothing_is_lost_or_doubled_over_restarts(dsn: str, receiver: HostileReceiver) -> None:
    """An order's event becomes one delivery, whichever instance writes it, and whenever."""
    async with instance(dsn) as client:
        endpoint = await register(client, receiver.url)
        await post(client, *(f"first {number}" for number in range(20)))
    async with instance(dsn) as one, instance(dsn) as two:
        await asyncio.gather(
            post(one, *(f"one {number}" for number in range(20))),
            post(two, *(f"two {number}" for number in range(20))),
        )
        told = await received(receiver, 60)

        async def all_delivered() -> bool:
            return len(await deliveries(one, endpoint, status="delivered", limit="500")) == 60

        await eventually(all_delivered)
    assert len(orders_of(told)) == 60


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://user:password@8.8.8.8/",
        "https://8.8.8.8/#fragment",
        "ftp://8.8.8.8/",
        "https:///path",
        "https://8.8.8.8:0/",
        "https://8.8.8.8:99999/",
        "https://no-such-name.invalid/",
        "not a url",
        "",
    ],
)
async def test_a_url_that_nothing_may_be_sent_to_is_refused(dsn: str, url: str) -> None:
    async with instance(dsn, allow_private=False) as client:
        answer = await client.post(ENDPOINTS, json={"url": url})
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["body", "url"])
        endpoint = await register(client, "https://8.8.8.8/hooks")
        answer = await client.patch(f"{ENDPOINTS}/{endpoint['id']}", json={"url": url})
        assert answer.status_code == 400


@pytest.mark.parametrize("name", ["url", "description", "event_types", "customer_ids", "enabled"])
async def test_null_is_no_way_to_leave_something_as_it_is(dsn: str, name: str) -> None:
    async with instance(dsn) as client:
        endpoint = await register(client, "https://8.8.8.8/hooks")
        answer = await client.patch(f"{ENDPOINTS}/{endpoint['id']}", json={name: None})

    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["body", name])


async def test_endpoints_are_changed_listed_and_deleted_with_an_entry_in_the_audit_log(
    client: httpx.AsyncClient, receiver: HostileReceiver
) -> None:
    first = await register(client, receiver.url, reason="shop")
    second = await register(client, receiver.url, description="the second")
    path = f"{ENDPOINTS}/{first['id']}"
    changed = (await client.patch(path, json={"event_types": ["order.done"], "enabled": False})).json()
    assert (changed["event_types"], changed["enabled"], changed["url"]) == (
        ["order.done"],
        False,
        receiver.url,
    )
    page = (await client.get(ENDPOINTS, params={"limit": 1})).json()
    assert ([one["id"] for one in page["endpoints"]], page["has_more"]) == ([second["id"]], True)
    assert (await client.delete(path)).json() == {"deleted": True}
    for gone in (
        await client.get(path),
        await client.delete(path),
        await client.patch(path, json={}),
        await client.post(f"{path}/rotate", json={}),
        await client.post(f"{path}/replay", json={}),
        await client.get(f"{path}/deliveries"),
    ):
        assert (gone.status_code, gone.json()["error_type"]) == (404, "EndpointNotFound")
    audit = (await client.get("/admin/audit")).json()["entries"]
    actions = [entry["action"] for entry in audit if entry["target"] == f"webhook endpoint {first['id']}"]
    assert actions == ["webhook.delete", "webhook.change", "webhook.create"]
    assert not any("whsec" in json.dumps(entry) for entry in audit)


async def test_only_operators_have_a_say(client: httpx.AsyncClient, receiver: HostileReceiver) -> None:
    stranger = httpx.AsyncClient(base_url=client.base_url)
    for method, path in (("GET", ENDPOINTS), ("POST", ENDPOINTS), ("DELETE", f"{ENDPOINTS}/1")):
        assert (await stranger.request(method, path)).status_code == 401
    await stranger.aclose()


async def test_old_deliveries_are_forgotten_unless_they_may_still_be_tried(
    client: httpx.AsyncClient, receiver: HostileReceiver, database: Database, connection: asyncpg.Connection
) -> None:
    endpoint = await register(client, receiver.url)
    await post(client, "delivered long ago", "waits", "delivered now")
    await settled(client, endpoint, "delivered", 3)
    old = "UPDATE webhook_deliveries SET created_at = now() - interval '8 days' WHERE order_id <> $1"
    await connection.execute(old, "delivered now")
    await connection.execute(
        "UPDATE webhook_deliveries SET status = 'pending', due_at = 'infinity' WHERE order_id = 'waits'"
    )
    cleaner = WebhookCleaner(database, retention_days=7, interval_seconds=0)

    async def left() -> list[str]:
        return [str(row["body"]["data"]["order_id"]) for row in await deliveries(client, endpoint)]

    await cleaner.run_once()
    assert sorted(await left()) == ["delivered now", "waits"]

    await client.patch(f"{ENDPOINTS}/{endpoint['id']}", json={"enabled": False})
    await cleaner.run_once()
    assert await left() == ["delivered now"]
