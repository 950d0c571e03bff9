"""`GET /events` and `GET /orders/{order_id}/events`, as clients of server-sent events see them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from order_service.api import events_routes
from order_service.application import order_events
from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

Opened = Callable[..., AbstractAsyncContextManager["Stream"]]


class Stream:
    """What an EventSource does with the lines of an answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.comments = 0

    async def next(self) -> tuple[str, str, Any]:
        """Id, type and data of the next event; raises StopAsyncIteration at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for line in self._lines:
                name, _, value = line.partition(":")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    return fields.get("id", ""), fields["event"], json.loads(fields["data"])
                else:
                    fields = {}
        raise StopAsyncIteration


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, path: str = "/events", last_event_id: str | None = None
) -> AsyncIterator[Stream]:
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    async with client.stream("GET", path, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)


async def post(client: httpx.AsyncClient, order_id: str, customer_id: str = "c-1") -> None:
    items = [{"sku": "laptop", "quantity": 1, "price": 5}]
    body = {"order_id": order_id, "customer_id": customer_id, "items": items}
    assert (await client.post("/orders", json=body)).status_code == 201


async def post_all(client: httpx.AsyncClient, order_ids: list[str]) -> None:
    items = [{"sku": "laptop", "quantity": 1, "price": 5}]
    bodies = [{"order_id": order_id, "customer_id": "c-1", "items": items} for order_id in order_ids]
    assert (await client.post("/orders/bulk", json=bodies)).status_code == 200


async def decide(broker: InProcessBroker, order_id: str, fail_reason: str | None = None) -> None:
    status = "failed" if fail_reason else "success"
    result = {"order_id": order_id, "status": status, "fail_reason": fail_reason, "version": 2}
    message = Message(
        routing_key="order.processed", body=json.dumps(result).encode(), message_id=f"m-{order_id}"
    )
    await broker.publisher().publish([message])


async def shown(client: httpx.AsyncClient, order_id: str) -> Any:
    return (await client.get(f"/orders/{order_id}")).json()


@asynccontextmanager
async def another_instance(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with InProcessBroker() as broker:
        settings = OrderSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0)
        async with Service("order-service", order_service(settings, broker)) as service:
            await service.ready()
            async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
                yield client


async def test_an_order_is_followed_from_its_creation_to_its_end(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    await post(client, "o-1")
    pending = await shown(client, "o-1")
    async with opened(client, "/orders/o-1/events") as stream:
        id, type, data = await stream.next()
        assert (id, type, data["type"], data["data"]) == ("1", "order.created", "order.created", pending)
        await decide(broker, "o-1", "Too fatty food")
        id, type, data = await stream.next()
        assert (id, type) == ("2", "order.failed")
        assert data["data"] == await shown(client, "o-1")
        assert data["timestamp"] == data["data"]["updated_at"]
        with pytest.raises(StopAsyncIteration):
            await stream.next()


async def test_the_stream_of_an_order_is_resumed_without_repetition(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    await post(client, "o-1")
    await decide(broker, "o-1")
    async with opened(client, "/orders/o-1/events", last_event_id="1") as stream:
        assert (await stream.next())[:2] == ("2", "order.done")
    again = await client.get("/orders/o-1/events", headers={"last-event-id": "2"})
    assert (again.status_code, again.content) == (204, b"")


async def test_a_stream_tells_of_every_order_also_of_those_that_others_change(
    client: httpx.AsyncClient, dsn: str
) -> None:
    async with another_instance(dsn) as other, opened(client) as here, opened(other) as there:
        await post(client, "o-1")
        await post(other, "o-2")
        assert (await other.post("/orders/o-1/cancel")).status_code == 200
        seen = [[await stream.next() for _ in range(3)] for stream in (here, there)]
        assert seen[0] == seen[1]
        assert [(type, data["data"]["order_id"]) for _, type, data in seen[0]] == [
            ("order.created", "o-1"),
            ("order.created", "o-2"),
            ("order.cancelled", "o-1"),
        ]


async def test_a_stream_can_be_of_one_customer_and_of_some_types(
    client: httpx.AsyncClient, broker: InProcessBroker
) -> None:
    async with (
        opened(client, "/events?customer_id=c-2") as theirs,
        opened(client, "/events?type=order.done,order.failed") as ends,
    ):
        for number in (1, 2):
            await post(client, f"o-{number}", customer_id=f"c-{number}")
        assert (await theirs.next())[2]["data"]["order_id"] == "o-2"
        await decide(broker, "o-1")
        assert (await ends.next())[1:] == ("order.done", {**(await ended(client, "o-1"))})


async def ended(client: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    order = await shown(client, order_id)
    return {"type": f"order.{order['status']}", "timestamp": order["updated_at"], "data": order}


async def test_a_stream_is_resumed_after_a_restart_without_gap_or_repetition(dsn: str) -> None:
    """Whatever happened meanwhile, and through another instance."""
    seen: list[str] = []
    last_event_id = "0"
    for life in range(3):
        async with another_instance(dsn) as client:
            await post_all(client, [f"o-{life}-{number}" for number in range(300)])
            async with opened(client, last_event_id=last_event_id) as stream:
                for _ in range(250):
                    last_event_id, _, data = await stream.next()
                    seen.append(data["data"]["order_id"])
    async with another_instance(dsn) as client, opened(client, last_event_id=last_event_id) as stream:
        seen += [(await stream.next())[2]["data"]["order_id"] for _ in range(150)]
        await post(client, "the last")
        assert (await stream.next())[2]["data"]["order_id"] == "the last"
    assert sorted(seen) == sorted(f"o-{life}-{number}" for life in range(3) for number in range(300))


async def test_what_is_read_from_the_log_and_what_comes_live_meet_without_gap(
    client: httpx.AsyncClient,
) -> None:
    """Streams begin at any moment while orders come in; each sees every order once."""

    async def follow() -> list[str]:
        async with opened(client, last_event_id="0") as stream:
            return [(await stream.next())[2]["data"]["order_id"] for _ in range(200)]

    following, posted = [], list[str]()
    for batch in range(10):
        following.append(asyncio.create_task(follow()))
        posted += (order_ids := [f"o-{batch}-{number}" for number in range(20)])
        await post_all(client, order_ids)
    for task in following:
        assert sorted(await task) == sorted(posted)


async def test_who_resumes_before_what_is_kept_is_told_so(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("UPDATE order_log_head SET forgotten = 5, position = 9")
    answer = await client.get("/events", headers={"last-event-id": "4"})
    assert (answer.status_code, answer.json()["error_type"]) == (410, "EventsForgotten")
    async with opened(client, last_event_id="5"):
        pass


@pytest.mark.parametrize("id", ["-1", "x", "1.5", "9" * 19, "1000000"])
async def test_an_id_that_no_event_has_is_refused(client: httpx.AsyncClient, id: str) -> None:
    answer = await client.get("/events", headers={"last-event-id": id})
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["header", "Last-Event-ID"])


@pytest.mark.parametrize("query", ["type=order.lost", "customer_id=", "unknown=1", "type="])
async def test_a_filter_that_cannot_be_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/events?{query}")).status_code == 400


async def test_an_order_that_does_not_exist_has_no_stream(client: httpx.AsyncClient) -> None:
    assert (await client.get("/orders/nothing/events")).status_code == 404


async def test_a_head_request_is_answered_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.head("/events")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_stream_without_events_shows_that_it_lives(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = events_routes.events_routes.__kwdefaults__
    assert defaults
    monkeypatch.setitem(defaults, "heartbeat_seconds", 0.01)
    async with another_instance(dsn) as client, opened(client) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stream.next()
        assert stream.comments > 2


@pytest.mark.parametrize("path", ["/events?type=order.failed", "/orders/o-1/events"])
async def test_a_stream_ends_when_its_key_is_revoked(
    dsn: str, broker: InProcessBroker, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    defaults = events_routes.events_routes.__kwdefaults__
    assert defaults
    monkeypatch.setitem(defaults, "heartbeat_seconds", 0.05)
    admin = {"authorization": "Bearer key-of-the-operator"}
    settings = OrderSettings(db_dsn=dsn, port=0, admin_key="key-of-the-operator", shutdown_grace_seconds=5.0)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, headers={"x-operator": "Anna"}) as client,
    ):
        await service.ready()
        wanted = {"name": "shop", "roles": ["orders:write", "orders:read"], "reason": "a new shop"}
        made = (await client.post("/admin/keys", json=wanted, headers=admin)).json()
        client.headers["authorization"] = f"Bearer {made['secret']}"
        await post(client, "o-1")
        async with opened(client, path) as stream:
            end = asyncio.create_task(end_of(stream))
            await asyncio.sleep(0.5)
            assert not end.done()
            revoke = f"/admin/keys/{made['key']['id']}/revoke"
            assert (await client.post(revoke, json={"reason": "lost"}, headers=admin)).status_code == 200
            assert await end == {"reason": "key_not_valid"}


async def end_of(stream: Stream) -> Any:
    """What the event `end` says."""
    while True:
        _, kind, data = await stream.next()
        if kind == "end":
            return data


async def test_streams_end_when_the_service_stops_and_say_why(dsn: str) -> None:
    async with InProcessBroker() as broker:
        settings = OrderSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=20.0)
        service = Service("order-service", order_service(settings, broker))
        await service.__aenter__()
        await service.ready()
        async with httpx.AsyncClient(base_url=service.url) as client:
            await post(client, "o-1")
            of_all, of_one = "/events?type=order.failed", "/orders/o-1/events"
            async with opened(client, of_all) as all_orders, opened(client, of_one) as one:
                assert (await one.next())[1] == "order.created"
                service.stop()
                for stream in (all_orders, one):
                    assert (await stream.next())[1:] == ("end", {"reason": "stopping"})
                    with pytest.raises(StopAsyncIteration):
                        await stream.next()
        async with asyncio.timeout(10):
            await service.ended()


async def test_who_reads_too_slowly_is_cut_and_can_go_on_where_it_was(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, connection: asyncpg.Connection
) -> None:
    monkeypatch.setattr(order_events, "WAITING_MAX", 3)
    async with opened(client) as stream:
        await post(client, "o-0")
        id, _, _ = await stream.next()
        # All in one statement, so that they arrive at once, and are more than may wait.
        await connection.execute(
            """
            WITH created AS (
                INSERT INTO orders (order_id, customer_id, items, amount)
                SELECT 'more-' || number, 'c', '[]', 1 FROM generate_series(1, 9) AS number RETURNING order_id
            )
            INSERT INTO order_log (type, order_id, version) SELECT 'order.created', order_id, 1 FROM created
            """
        )
        assert (await stream.next())[1:] == ("end", {"reason": "too_slow"})
        with pytest.raises(StopAsyncIteration):
            await stream.next()
    async with opened(client, last_event_id=id) as stream:
        assert {(await stream.next())[2]["data"]["order_id"] for _ in range(9)} == {
            f"more-{number}" for number in range(1, 10)
        }


async def test_a_client_that_goes_away_leaves_nothing_behind(client: httpx.AsyncClient) -> None:
    async def open_streams() -> str:
        text = (await client.get("/metrics")).text
        return next(line for line in text.splitlines() if line.startswith("event_streams "))

    async def is_counted() -> bool:
        return await open_streams() == "event_streams 1.0"

    async def is_gone() -> bool:
        return await open_streams() == "event_streams 0.0"

    async with opened(client):
        await eventually(is_counted)
    await eventually(is_gone)


async def test_no_more_streams_are_opened_than_the_process_can_serve(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("order_service.infrastructure.order_feed.STREAMS_MAX", 0)
    answer = await client.get("/events")
    assert (answer.status_code, answer.json()["error_type"]) == (503, "TooManyStreams")
