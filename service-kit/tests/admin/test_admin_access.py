"""Who may operate, on every route; and what every answer looks like."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.routing import Route

from service_kit.http.access import Access
from service_kit.inprocess import InProcessBroker

from .conftest import KEY, Probe, audited, bury, get, post, probe_service, running

ROUTES = [
    ("GET", "/admin/state"),
    ("GET", "/admin/audit"),
    ("GET", "/admin/dead-letters"),
    ("GET", "/admin/dead-letters/groups"),
    ("POST", "/admin/dead-letters/forecast"),
    ("POST", "/admin/dead-letters/discard"),
    ("GET", "/admin/dead-letters/{id}"),
    ("POST", "/admin/replays"),
    ("GET", "/admin/replays"),
    ("GET", "/admin/replays/{id}"),
    ("POST", "/admin/replays/{id}/pause"),
    ("POST", "/admin/replays/{id}/resume"),
    ("POST", "/admin/replays/{id}/cancel"),
    ("POST", "/admin/consuming/pause"),
    ("POST", "/admin/consuming/resume"),
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys"),
    ("POST", "/admin/keys/{id}/rotate"),
    ("POST", "/admin/keys/{id}/revoke"),
]
CHANGES = [path for method, path in ROUTES if method == "POST" and not path.endswith("forecast")]
BODY = {"reason": "x", "ids": [1]}


def body_of(path: str) -> dict[str, object]:
    """One that is valid."""
    because = {} if path.endswith("forecast") else {"reason": "x"}
    return {**because, **rest_of_body(path, 1)}


def rest_of_body(path: str, letter_id: int) -> dict[str, object]:
    """Beside the reason."""
    if path == "/admin/keys":
        return {"name": "shop", "roles": ["orders:write"]}
    return {} if "consuming" in path or "{id}" in path else {"ids": [letter_id]}


def filled(path: str) -> str:
    return path.replace("{id}", "1")


@pytest.fixture
async def anonymous(idle_client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=idle_client.base_url) as client:
        yield client


async def test_the_table_names_every_route(dsn: str, broker: InProcessBroker, probe: Probe) -> None:
    async with probe_service(dsn, broker, probe, access=Access(KEY), runs=False) as parts:
        assert sorted(_served(parts.routes)) == sorted(ROUTES)


def _served(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        assert isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_or_a_wrong_key_opens_nothing(
    anonymous: httpx.AsyncClient, connection: asyncpg.Connection, method: str, path: str
) -> None:
    await bury(connection, "o1:1")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
        answer = await anonymous.request(
            method, filled(path), headers={"x-operator": "Anna", **headers}, json=BODY
        )

        assert (answer.status_code, answer.json()["error_type"]) == (401, "Unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 1
    assert await audited(connection) == []


async def test_without_a_key_everything_is_closed(dsn: str, broker: InProcessBroker, probe: Probe) -> None:
    async with running(dsn, broker, probe, access=Access(None), runs=False) as client:
        for method, path in ROUTES:
            answer = await client.request(method, filled(path))
            assert (answer.status_code, answer.json()["error_type"]) == (403, "AdminClosed"), path


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
async def test_a_change_without_an_operator_is_refused(
    anonymous: httpx.AsyncClient, connection: asyncpg.Connection, path: str
) -> None:
    key = {"authorization": f"Bearer {KEY}"}
    for headers in (key, {**key, "x-operator": ""}, {**key, "x-operator": "x" * 101}):
        answer = await anonymous.post(filled(path), headers=headers, json=BODY)
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["header", "X-Operator"])
    assert await audited(connection) == []


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": None}, {"reason": " "}])
async def test_a_change_without_a_reason_is_refused(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection, path: str, body: dict[str, object]
) -> None:
    [letter_id] = await bury(connection, "o1:1")
    answer = await idle_client.post(filled(path), json={**rest_of_body(path, letter_id), **body})

    assert answer.status_code == 400
    assert "reason" in json.dumps(answer.json()["errors"])
    assert await audited(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 1


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_while_the_database_is_away_it_says_so(
    dsn: str, connection: asyncpg.Connection, broker: InProcessBroker, probe: Probe, method: str, path: str
) -> None:
    async with running(dsn.replace(":5432", ":1"), broker, probe, runs=False) as client:
        body = body_of(path)
        answer = await client.request(method, filled(path), json=body if method == "POST" else None)

    if path == "/admin/state":
        assert answer.status_code == 200
        state = answer.json()
        assert state["checks"]["database"]["ok"] is False
        assert set(state["backlog"].values()) == {None, 0}
        assert set(state["consuming"].values()) == {None}
    else:
        assert (answer.status_code, answer.json()["error_type"]) == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"]


async def test_the_state_tells_what_there_is(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await bury(connection, "o1:1", "o2:1")
    await connection.execute(
        """
        INSERT INTO outbox (event_type, payload, due_at, created_at)
        VALUES ('later', '{}', now() + interval '1 h', now() - interval '1 min');
        INSERT INTO retry_queue (event_key, event_type, body, attempts, last_error, due_at)
        VALUES ('o3:1', 'event', '', 1, 'x', '2100-01-01T00:00:00Z')
        """
    )

    state = await get(client, "/admin/state")

    assert state["service"] == "probe-service"
    assert state["instance"] and state["version"]
    assert state["started_at"] <= state["now"]
    assert state["checks"]["database"] == {"ok": True, "detail": "ok"}
    assert set(state["checks"]) == {"database", "broker", "relay"}
    backlog = state["backlog"]
    assert (backlog["outbox_pending"], backlog["retries_pending"], backlog["dead_letters"]) == (1, 1, 2)
    assert 60 <= backlog["outbox_oldest_seconds"] < 3600
    assert backlog["retries_next_due_at"] == "2100-01-01T00:00:00Z"
    assert backlog["queue_messages"] == 0
    assert backlog["inbox_keys"] is None or backlog["inbox_keys"] >= 0


# the audit log


async def test_the_audit_log_is_read_from_the_newest(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    for number, letter_id in enumerate(await bury(connection, "a:1", "b:1", "c:1")):
        await post(
            idle_client, "/admin/dead-letters/discard", ids=[letter_id], reason=f"reason {number} <b>\u202e"
        )

    first = await get(idle_client, "/admin/audit", limit=2)
    second = await get(idle_client, "/admin/audit", limit=2, after=first["entries"][-1]["id"])

    entries = first["entries"] + second["entries"]
    assert [entry["reason"] for entry in entries] == [f"reason {number} <b>\u202e" for number in (2, 1, 0)]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert entries[0].keys() == {"id", "at", "operator", "action", "target", "reason", "details"}
    assert entries[0]["details"]["event_keys"] == ["c:1"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET reason = 'another'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DELETE FROM audit_log WHERE false",
    ],
)
async def test_the_audit_log_takes_new_rows_and_nothing_else(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection, statement: str
) -> None:
    [letter_id] = await bury(connection, "a:1")
    await post(idle_client, "/admin/dead-letters/discard", ids=[letter_id])
    before = await audited(connection)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await connection.execute(statement)

    assert await audited(connection) == before


async def test_no_change_without_its_entry(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    """When the log cannot be written, nothing is done."""
    [letter_id] = await bury(connection, "a:1")
    await connection.execute("ALTER TABLE audit_log ADD CONSTRAINT full_now CHECK (false) NOT VALID")
    try:
        for path in ("/admin/dead-letters/discard", "/admin/replays", "/admin/consuming/pause"):
            body = {"reason": "x"} if "consuming" in path else {"reason": "x", "ids": [letter_id]}
            assert (await idle_client.post(path, json=body)).status_code == 500
    finally:
        await connection.execute("ALTER TABLE audit_log DROP CONSTRAINT full_now")

    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 1
    assert await connection.fetchval("SELECT count(*) FROM replays") == 0
    assert await connection.fetchval("SELECT paused FROM consuming") is False
