"""Keys over the admin API and the command line; and a service that is not open by mistake."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from order_service.main import MIGRATIONS, order_service
from order_service.settings import OrderSettings
from service_kit.cli import Commands, run
from service_kit.errors import StartupError
from service_kit.inprocess import InProcessBroker
from service_kit.key_commands import key_commands
from service_kit.service import Service

KEY = "the-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {KEY}", "x-operator": "Anna"}
ORDER = {"order_id": "o-1", "customer_id": "c-1", "items": [{"sku": "laptop", "quantity": 1, "price": 5}]}


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def client(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    settings = OrderSettings(db_dsn=dsn, port=0, shutdown_grace_seconds=5.0, admin_key=KEY)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        await service.ready()
        yield client


async def made(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    body = {"name": "shop", "roles": ["orders:write"], "reason": "a new shop"} | more
    answer = await client.post("/admin/keys", json=body, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def posts(client: httpx.AsyncClient, key: str) -> int:
    return (await client.post("/orders", json=ORDER, headers=bearing(key))).status_code


async def audited(connection: asyncpg.Connection, key_id: int) -> list[str]:
    rows = await connection.fetch(
        "SELECT * FROM audit_log WHERE target LIKE $1 ORDER BY id", f"key {key_id} %"
    )
    return [f"{row['operator']} {row['action']}: {row['reason']}" for row in rows]


async def test_a_key_is_shown_once_and_kept_nowhere(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    key = await made(client)

    assert await posts(client, key["secret"]) == 201
    listed = await client.get("/admin/keys", headers=ADMIN)
    assert [one["id"] for one in listed.json()["keys"]] == [key["key"]["id"]]
    assert key["secret"] not in listed.text
    for table in ("api_keys", "audit_log"):
        rows = await connection.fetch(f"SELECT {table}::text FROM {table}")
        assert rows and not [row for row in rows if key["secret"][8:] in row[0]]
    assert await audited(connection, key["key"]["id"]) == ["Anna key.create: a new shop"]


async def test_a_revoked_key_is_refused_at_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    key = await made(client)
    assert await posts(client, key["secret"]) == 201

    path = f"/admin/keys/{key['key']['id']}/revoke"
    for _ in range(2):
        answer = await client.post(path, json={"reason": "lost"}, headers=ADMIN)
        assert (answer.status_code, answer.json()["state"]) == (200, "revoked")

    assert await posts(client, key["secret"]) == 401
    assert (await audited(connection, key["key"]["id"]))[1:] == ["Anna key.revoke: lost"] * 2


async def test_a_rotated_key_and_its_successor_are_both_good_until_the_overlap_ends(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    old = await made(client, customers=["c-1"], days=30)
    path = f"/admin/keys/{old['key']['id']}/rotate"

    new = (await client.post(path, json={"reason": "yearly", "overlap_hours": 1}, headers=ADMIN)).json()

    same = ("name", "roles", "customers")
    assert [new["key"][name] for name in same] == [old["key"][name] for name in same]
    assert new["key"]["replaces"] == old["key"]["id"]
    assert [await posts(client, key["secret"]) for key in (old, new)] == [201, 201]
    left = "SELECT expires_at - now() < interval '61 minutes' FROM api_keys WHERE id = $1"
    assert await connection.fetchval(left, old["key"]["id"])
    assert not await connection.fetchval(left, new["key"]["id"])

    await client.post(f"/admin/keys/{old['key']['id']}/revoke", json={"reason": "over"}, headers=ADMIN)
    again = await client.post(path, json={"reason": "late"}, headers=ADMIN)
    assert (again.status_code, again.json()["error_type"]) == (409, "KeyNotUsable")


@pytest.mark.parametrize("days", [None, 30])
async def test_a_key_that_is_rotated_again_has_successors_that_live_as_long_as_it_would_have(
    client: httpx.AsyncClient, connection: asyncpg.Connection, days: int | None
) -> None:
    old = await made(client, **({"days": days} if days else {}))
    path = f"/admin/keys/{old['key']['id']}/rotate"

    for _ in range(2):  # as one does whom no answer has reached
        new = (await client.post(path, json={"reason": "yearly", "overlap_hours": 1}, headers=ADMIN)).json()

    lifetime = "SELECT expires_at - created_at FROM api_keys WHERE id = $1"
    assert await connection.fetchval(lifetime, new["key"]["id"]) == (timedelta(days=days) if days else None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"roles": []},
        {"roles": ["orders:delete"]},
        {"roles": ["anybody"]},
        {"roles": ["admin"], "customers": ["c-1"]},
        {"customers": []},
        {"name": ""},
        {"days": 0},
        {"reason": " "},
        {"hash": "x"},
    ],
)
async def test_a_key_that_cannot_be_is_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    body = {"name": "shop", "roles": ["orders:write"], "reason": "a new shop"} | wrong
    answer = await client.post("/admin/keys", json=body, headers=ADMIN)

    assert (answer.status_code, answer.json()["error_type"]) == (400, "ValidationError")


async def test_a_key_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/admin/keys/999999/rotate", "/admin/keys/x/rotate", "/admin/keys/999999/revoke"):
        answer = await client.post(path, json={"reason": "x"}, headers=ADMIN)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "KeyNotFound")


async def test_each_order_of_a_bulk_is_counted(dsn: str, broker: InProcessBroker) -> None:
    settings = OrderSettings(db_dsn=dsn, port=0, admin_key=KEY, rate_per_key=1, shutdown_grace_seconds=5.0)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        await service.ready()
        header = bearing((await made(client))["secret"])
        orders = [ORDER | {"order_id": f"b-{n}"} for n in range(1_000)]
        assert (await client.post("/orders/bulk", json=orders, headers=header)).status_code == 200
        refused = await client.post("/orders", json=ORDER, headers=header)

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 900


# not open by mistake


async def start(dsn: str, broker: InProcessBroker, **settings: Any) -> None:
    """Start, and end when it is ready."""
    given = OrderSettings(db_dsn=dsn, port=0, shutdown_grace_seconds=2.0, **settings)
    async with Service("order-service", order_service(given, broker)) as service:
        await service.ready()


async def test_who_would_let_others_in_without_a_key_does_not_start(
    dsn: str, broker: InProcessBroker
) -> None:
    with pytest.raises(StartupError) as refused:
        await start(dsn, broker, host="0.0.0.0")

    assert refused.value.exit_code == 2
    for words in ("APP__HOST=0.0.0.0", "order-service keys create", "APP__ADMIN_KEY", "APP__AUTH=off"):
        assert words in str(refused.value)


@pytest.mark.parametrize("settings", [{"auth": "off"}, {"admin_key": KEY}, {"host": "127.0.0.1"}])
async def test_it_starts_when_that_is_meant_or_nobody_else_can_ask(
    dsn: str, broker: InProcessBroker, settings: dict[str, Any]
) -> None:
    await start(dsn, broker, **{"host": "0.0.0.0", **settings})


async def test_the_first_key_is_made_on_a_bare_database(
    own_dsn: str,
    broker: InProcessBroker,
    connection: asyncpg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def keys(*arguments: str) -> tuple[int, str, str]:
        commands: Commands[OrderSettings] = Commands(
            name="order-service",
            description="",
            settings=OrderSettings,
            serve=never,
            migrate=never,
            dead_letters=never,
            own=[key_commands(MIGRATIONS)],
        )
        code = await asyncio.to_thread(run, commands, ["keys", *arguments], {"APP__DB_DSN": own_dsn})
        out, err = capsys.readouterr()
        return code, out, err

    own = await asyncpg.connect(own_dsn)
    await own.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    code, out, err = await keys("create", "--name", "shop", "--role", "orders:write", "--customer", "c-1")
    assert (code, err.splitlines()[-1]) == (0, "key 1 (shop), shown this once:")
    key = out.strip()

    await start(own_dsn, broker, host="0.0.0.0")
    assert "shop" in (await keys("list"))[1]
    code, out, _ = await keys("rotate", "1")
    assert code == 0 and out.startswith("ork_") and out.strip() != key
    assert (await keys("revoke", "1"))[0] == 0
    assert (await keys("revoke", "9"))[0] == 1
    assert (await keys("create", "--name", "x", "--role", "admin", "--customer", "c"))[0] == 1
    assert (await keys("create", "--name", "x", "--role", "everything"))[0] == 2
    actions = await own.fetch("SELECT action FROM audit_log ORDER BY id")
    assert [row["action"] for row in actions] == ["key.create", "key.rotate", "key.revoke"]
    own.terminate()


def never(_: OrderSettings) -> Any:
    raise AssertionError
