"""Pausing consuming, in all instances, and through restarts."""

import asyncio
import json

import asyncpg
import httpx

from service_kit.inprocess import InProcessBroker
from service_kit.testing.eventually import eventually

from .conftest import Probe, audited, bury, get, message, post, running


async def paused(client: httpx.AsyncClient) -> bool:
    """As the instance itself does it."""
    text = (await client.get("/metrics")).text
    return "consuming_paused 1.0" in text


async def test_during_a_pause_nothing_is_handled_and_nothing_is_lost(
    client: httpx.AsyncClient, broker: InProcessBroker, probe: Probe
) -> None:
    switched = await post(client, "/admin/consuming/pause", reason="the policy is broken")
    publishing = broker.publisher().publish([message(f"o{number}:1") for number in range(50)])
    published = asyncio.ensure_future(publishing)

    state = await get(client, "/admin/state")
    assert switched["paused"] is True
    assert (switched["by"], switched["reason"]) == ("Anna", "the policy is broken")
    assert state["consuming"] == switched
    await eventually(lambda: paused(client))
    assert (await client.get("/ready")).status_code == 200
    assert state["backlog"]["queue_messages"] in (0, 50)
    assert probe.handled == [] and not published.done()

    await post(client, "/admin/consuming/resume", reason="mended")
    await published
    assert sorted(probe.handled) == sorted(f"o{number}:1" for number in range(50))
    assert (await get(client, "/admin/state"))["consuming"]["paused"] is False
    assert not await paused(client)


async def test_all_instances_pause_and_resume(
    client: httpx.AsyncClient, dsn: str, broker: InProcessBroker
) -> None:
    async with running(dsn, broker, Probe()) as other:
        await post(other, "/admin/consuming/pause")
        await eventually(lambda: paused(client))
        await post(client, "/admin/consuming/resume")

        async def runs() -> bool:
            return not await paused(other)

        await eventually(runs)


async def test_a_pause_survives_a_restart(dsn: str, broker: InProcessBroker, probe: Probe) -> None:
    async with running(dsn, broker, probe) as client:
        await post(client, "/admin/consuming/pause")
    published = asyncio.ensure_future(broker.publisher().publish([message("o1:1")]))

    async with running(dsn, broker, probe) as client:
        await eventually(lambda: paused(client))
        assert (await get(client, "/admin/state"))["consuming"]["paused"] is True
        assert probe.handled == []
        await post(client, "/admin/consuming/resume")
        await published


async def test_retries_wait_too_and_so_does_a_replay(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    ids = await bury(connection, "o1:1")
    await post(client, "/admin/consuming/pause")
    created = await post(client, "/admin/replays", 201, ids=ids)

    async def is_in_flight() -> bool:
        return bool((await get(client, f"/admin/replays/{created['id']}"))["in_flight"])

    await eventually(is_in_flight)
    assert probe.handled == []

    await post(client, "/admin/consuming/resume")
    await eventually(lambda: probe.handled == ["o1:1"])


async def test_who_asked_first_stays_named(client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    first = await post(client, "/admin/consuming/pause", reason="first")
    second = await post(client, "/admin/consuming/pause", reason="second")
    await post(client, "/admin/consuming/resume", reason="third")
    await post(client, "/admin/consuming/resume", reason="fourth")

    assert second == first
    entries = await audited(connection)
    assert [(entry["action"], entry["reason"]) for entry in entries] == [
        ("consuming.pause", "first"),
        ("consuming.resume", "third"),
    ]
    assert json.loads(entries[0]["details"]) == {}
