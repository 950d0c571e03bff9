"""Who may do what: every operation of the documents × everybody who may ask × whose order it is."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
import yaml

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.api_keys import new_secret
from service_kit.http.endpoint import roles_of
from service_kit.http.principal import Role
from service_kit.inprocess import InProcessBroker
from service_kit.postgres.api_keys import ApiKeys, NewKey
from service_kit.postgres.audit import Cause
from service_kit.postgres.database import Database
from service_kit.service import Service

ADMIN_KEY = "the-key-of-the-tests"
MINE, THEIRS = "mine", "theirs"
CAUSE = Cause(operator="tests", reason="a test")


class Asking(NamedTuple):
    """`roles` None: whoever asks is nobody."""

    roles: set[Role] | None
    customers: set[str] | None = None

    def has(self, role: Role) -> bool:
        return role is Role.ANYBODY or bool(self.roles and ({role, Role.ADMIN} & self.roles))


WHO: Mapping[str, Asking] = {
    "without a key": Asking(None),
    "with an unknown key": Asking(None),
    "with an expired key": Asking(None),
    "with a revoked key": Asking(None),
    "a reader": Asking({Role.READ}),
    "a writer": Asking({Role.WRITE}),
    "a reader and writer": Asking({Role.READ, Role.WRITE}),
    "an admin": Asking({Role.ADMIN}),
    "with APP__ADMIN_KEY": Asking({Role.ADMIN}),
    "a reader of mine": Asking({Role.READ}, {MINE}),
    "a writer of mine": Asking({Role.WRITE}, {MINE}),
    "a reader and writer of mine and another": Asking({Role.READ, Role.WRITE}, {MINE, "other"}),
}


class Operation(NamedTuple):
    method: str
    path: str
    role: Role


def documented(folder: Path) -> Iterator[Operation]:
    for name in ("openapi-order-service.yaml", "openapi-admin.yaml"):
        document = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        for path, item in document["paths"].items():
            hows = [one["schema"]["enum"] for one in item.get("parameters", ()) if one.get("name") == "how"]
            for method in {"get", "post", "put", "patch", "delete"} & set(item):
                for how in hows[0] if hows else [""]:
                    role = role_of(item[method].get("security", document["security"]))
                    yield Operation(method.upper(), path.replace("{how}", how), role)


def role_of(security: list[dict[str, list[str]]]) -> Role:
    return Role(security[0]["key"][0]) if security else Role.ANYBODY


def expected(operation: Operation, asking: Asking, whose: str) -> str:
    if operation.role is not Role.ANYBODY and asking.roles is None:
        return "unauthorized"
    if not asking.has(operation.role):
        return "forbidden"
    if asking.customers is None or whose in asking.customers or not operation.path.startswith("/orders"):
        return "answered"
    return "refused" if operation.path in SENDING and operation.method == "POST" else "hidden"


SENDING = ("/orders", "/orders/bulk")


def order_of(whose: str) -> dict[str, Any]:
    return {
        "order_id": f"order-of-{whose}",
        "customer_id": whose,
        "items": [{"sku": "laptop", "quantity": 1, "price": 5}],
    }


def arguments(operation: Operation, whose: str) -> dict[str, Any]:
    path = operation.path.replace("{order_id}", f"order-of-{whose}").replace("{id}", "999999")
    match operation.method, operation.path:
        case "POST", "/orders":
            more: dict[str, Any] = {"json": order_of(whose)}
        case "POST", "/orders/bulk":
            more = {"json": [order_of(whose)]}
        case "GET", "/orders":
            more = {"params": {"customer_id": whose}}
        case "GET", _:
            more = {}
        case "POST", _ if operation.role is Role.ADMIN:
            more = {"json": {}, "headers": {"x-operator": "tests"}}
        case _:
            more = {}
    return {"method": operation.method, "url": path, **more}


async def outcome(client: httpx.AsyncClient, asked: dict[str, Any], key: str | None) -> str:
    headers = asked.pop("headers", {}) | ({"authorization": f"Bearer {key}"} if key else {})
    async with client.stream(**asked, headers=headers) as answer:
        if answer.headers["content-type"].startswith("text/"):
            return "answered"  # metrics, and streams, which do not end
        await answer.aread()
    told = answer.json()
    if isinstance(told, list):  # of a bulk
        told = told[0].get("problem", {})
    if asked["url"] == "/orders" and asked["method"] == "GET" and answer.status_code == 200:
        return "answered" if told["data"] else "hidden"
    match told.get("error_type"):
        case "Unauthorized":
            return "unauthorized"
        case "Forbidden":
            return "forbidden"
        case "CustomerNotAllowed":
            return "refused"
        case "OrderNotFound":
            return "hidden"
        case "AdminClosed" | "InternalServerError" | "NotFound" | "MethodNotAllowed" as fault:
            return str(fault)
    return "answered"


@asynccontextmanager
async def serving(dsn: str, broker: InProcessBroker) -> AsyncIterator[httpx.AsyncClient]:
    settings = OrderSettings(db_dsn=dsn, port=0, shutdown_grace_seconds=5.0, admin_key=ADMIN_KEY)
    async with (
        Service("order-service", order_service(settings, broker)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
    ):
        await service.ready()
        yield client


@pytest.fixture
async def keys(database: Database, connection: asyncpg.Connection) -> Mapping[str, str | None]:
    """The key of each of WHO."""
    table = ApiKeys(database)
    found: dict[str, str | None] = {"without a key": None, "with an unknown key": new_secret().key}
    for name in ("with an expired key", "with a revoked key"):
        made = await table.create(NewKey(name=name, roles=[Role.ADMIN]), CAUSE)
        column = "expires_at" if "expired" in name else "revoked_at"
        await connection.execute(f"UPDATE api_keys SET {column} = now() WHERE id = $1", made.row["id"])
        found[name] = made.secret
    found["with APP__ADMIN_KEY"] = ADMIN_KEY
    for name, asking in WHO.items():
        if name not in found:
            customers = sorted(asking.customers) if asking.customers else None
            new = NewKey(name=name, roles=sorted(asking.roles or ()), customers=customers)
            found[name] = (await table.create(new, CAUSE)).secret
    return found


async def test_everybody_may_do_what_the_documents_say_and_nothing_else(
    dsn: str, broker: InProcessBroker, keys: Mapping[str, str | None], contracts_folder: Path
) -> None:
    operations = sorted(documented(contracts_folder), key=lambda one: one.path in ("/admin/consuming/pause",))
    should, does = {}, {}
    async with serving(dsn, broker) as client:
        for whose in (MINE, THEIRS):
            sent = await client.post(
                "/orders", json=order_of(whose), headers={"authorization": f"Bearer {ADMIN_KEY}"}
            )
            assert sent.status_code == 201
        for operation in operations:
            for who, asking in WHO.items():
                for whose in (MINE, THEIRS):
                    case = f"{operation.method} {operation.path} by {who}, of {whose}"
                    should[case] = expected(operation, asking, whose)
                    does[case] = await outcome(client, arguments(operation, whose), keys[who])

    assert does == should
    assert len(should) == len(operations) * len(WHO) * 2 > 700


async def test_each_route_has_the_role_that_the_documents_say(
    dsn: str, broker: InProcessBroker, contracts_folder: Path
) -> None:
    async with order_service(OrderSettings(db_dsn=dsn, port=0), broker) as parts:
        served = {one for one in roles_of(parts.routes) if one[0] != "HEAD"}

    probes = set(documented(contracts_folder)) - served
    assert {path for _, path, _ in probes} == {"/health", "/ready", "/metrics"}
    assert served <= set(documented(contracts_folder))


async def test_another_customers_order_is_told_of_in_no_other_words_than_none(
    dsn: str, broker: InProcessBroker, keys: Mapping[str, str | None]
) -> None:
    headers = {"authorization": f"Bearer {keys['a reader and writer of mine and another']}"}
    async with serving(dsn, broker) as client:
        await client.post("/orders", json=order_of(THEIRS), headers={"authorization": f"Bearer {ADMIN_KEY}"})
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")):
            asked = [
                await client.request(method, f"/orders/{order_id}{path}", headers=headers)
                for order_id in ("order-of-theirs", "order-of-nobody")
            ]
            theirs, none = (answer.text.replace("theirs", "nobody") for answer in asked)
            assert theirs == none
        for cursor in ("starting_after", "ending_before"):
            asked = [
                await client.get("/orders", params={cursor: order_id}, headers=headers)
                for order_id in ("order-of-theirs", "order-of-nobody")
            ]
            theirs, none = (answer.text.replace("theirs", "nobody") for answer in asked)
            assert theirs == none and "there is no order" in theirs
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        assert (await client.get("/orders/order-of-theirs", headers=admin)).json()["status"] == "pending"


async def test_a_stream_of_a_restricted_key_tells_of_no_other_customers(
    dsn: str, broker: InProcessBroker, keys: Mapping[str, str | None]
) -> None:
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    headers = {"authorization": f"Bearer {keys['a reader of mine']}"}
    told: list[str] = []
    async with serving(dsn, broker) as client:
        async with client.stream("GET", "/events", headers=headers, timeout=20) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            await anext(lines)  # it is open
            for whose in (THEIRS, MINE):
                assert (await client.post("/orders", json=order_of(whose), headers=admin)).status_code == 201
            async for line in lines:
                if line.startswith("data: "):
                    told.append(json.loads(line.removeprefix("data: "))["data"]["order_id"])
                    break
        theirs = await client.get("/orders/order-of-theirs/events", headers=headers)

    assert told == ["order-of-mine"]
    assert (theirs.status_code, theirs.json()["error_type"]) == (404, "OrderNotFound")


async def test_the_list_of_a_restricted_key_is_walked_as_if_there_were_no_other_orders(
    dsn: str, broker: InProcessBroker, keys: Mapping[str, str | None]
) -> None:
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    headers = {"authorization": f"Bearer {keys['a reader and writer of mine and another']}"}
    customers = [MINE, THEIRS, "other"] * 4
    async with serving(dsn, broker) as client:
        for number, customer_id in enumerate(customers):
            body = order_of(customer_id) | {"order_id": f"o-{number:02}"}
            assert (await client.post("/orders", json=body, headers=admin)).status_code == 201
        should = [f"o-{n:02}" for n, customer_id in enumerate(customers) if customer_id != THEIRS][::-1]
        seen: list[str] = []
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"]:
            cursor = {"starting_after": seen[-1]} if seen else {}
            page = (await client.get("/orders", params={"limit": 3, **cursor}, headers=headers)).json()
            seen += [order["order_id"] for order in page["data"]]
        back: dict[str, Any] = {"limit": 3, "ending_before": seen[-1]}
        before = (await client.get("/orders", params=back, headers=headers)).json()

    assert seen == should
    assert [order["order_id"] for order in before["data"]] == should[-4:-1]
