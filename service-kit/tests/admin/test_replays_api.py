"""Replays over HTTP, from the frozen set to the last outcome, with a service that runs."""

import asyncio
import json
from typing import Any

import asyncpg
import httpx
import pytest

from service_kit.admin.forecasts import Forecasts
from service_kit.admin.housekeeping import ReplayItemsCleaner
from service_kit.admin.replay_runner import ReplayRunner
from service_kit.consumer import Never, RetryLater
from service_kit.inprocess import InProcessBroker
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.testing.eventually import eventually

from .conftest import HEADERS, Probe, audited, bury, get, post, running

RUN = {"per_second": 10_000}


async def ended(client: httpx.AsyncClient, replay_id: int, *, state: str = "finished") -> dict[str, Any]:
    async def is_there() -> dict[str, Any] | None:
        found: dict[str, Any] = await get(client, f"/admin/replays/{replay_id}")
        return found if found["state"] == state and not found["in_flight"] else None

    return await eventually(is_there, within_seconds=60)


def counts(replay: dict[str, Any]) -> tuple[int, int, int, int]:
    return replay["handled"], replay["skipped"], replay["failed"], replay["remaining"]


async def left(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Dead letters, retries and rows of the outbox."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM dead_letter_queue), (SELECT count(*) FROM retry_queue),"
        " (SELECT count(*) FROM outbox)"
    )
    assert row is not None
    return row[0], row[1], row[2]


# from the beginning to the end


async def test_letters_are_replayed_and_counted(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    ids = await bury(connection, *(f"o{number}:1" for number in range(25)))

    created = await post(client, "/admin/replays", 201, ids=ids, **RUN)
    replay = await ended(client, created["id"])

    assert created["state"] == "running"
    assert (created["total"], created["not_found"], created["in_other_replays"]) == (25, 0, 0)
    assert created["forecast"].items() >= {"total": 25, "will_run": 25}.items()
    assert counts(replay) == (25, 0, 0, 0)
    assert replay["step"] == 3
    assert (replay["operator"], replay["reason"]) == ("Anna", "a test")
    assert replay["finished_at"] >= replay["created_at"]
    assert replay["stopped_because"] is None
    assert sorted(probe.handled) == sorted(f"o{number}:1" for number in range(25))
    assert await left(connection) == (0, 0, 0)


async def test_each_outcome_is_counted_as_what_it_was(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    probe.done = {"done:1"}
    probe.outcomes = {
        "never:1": Never(reason="still broken"),
        "later:1": RetryLater(reason="not yet"),
        "asked:1": RetryLater(reason="closed until six", delay_seconds=3600, counts=False),
    }
    await bury(connection, "new:1", "done:1", "never:1", "later:1", "asked:1")
    await bury(connection, "broken", body=b"no event")

    created = await post(client, "/admin/replays", 201, filter={}, failure_share_max=1, **RUN)
    replay = await ended(client, created["id"])

    assert counts(replay) == (1, 1, 4, 0)
    assert sorted(probe.handled) == ["done:1", "new:1"]
    assert await left(connection) == (2, 2, 0)
    states = await connection.fetch("SELECT state FROM replay_items ORDER BY dead_letter_id")
    assert [row["state"] for row in states] == ["handled", "skipped", "failed", "failed", "failed", "failed"]


async def test_a_letter_that_was_malformed_and_now_fails_under_its_own_key_has_failed(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    """As after a release that reads more: what could not be read has a key now."""
    probe.outcomes["o1:1"] = Never(reason="no stock")
    [letter_id] = await bury(connection, "malformed:0123", body=b'{"key": "o1:1"}')

    created = await post(client, "/admin/replays", 201, ids=[letter_id], failure_share_max=1, **RUN)

    assert counts(await ended(client, created["id"])) == (0, 0, 1, 0)


@pytest.mark.parametrize(("done", "outcome"), [(False, (0, 0, 1, 0)), (True, (1, 0, 0, 0))])
async def test_a_letter_whose_event_waits_for_its_retry_already_is_handled_only_if_its_effect_is_there(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe, done: bool, outcome: object
) -> None:
    """The same event failed before under its own key: that retry stays, and no new one is stored."""
    await connection.execute(
        "INSERT INTO retry_queue (event_key, event_type, body, headers, attempts, last_error, due_at)"
        " VALUES ('o1:1', 'event', '{\"key\": \"o1:1\"}', '{}', 1, '', now() + interval '1 h')"
    )
    if done:
        await connection.execute("INSERT INTO processed_inbox (event_key) VALUES ('o1:1')")
    else:
        probe.outcomes["o1:1"] = RetryLater(reason="not yet")
    [letter_id] = await bury(connection, "malformed:0123", body=b'{"key": "o1:1"}')

    created = await post(client, "/admin/replays", 201, ids=[letter_id], failure_share_max=1, **RUN)

    assert counts(await ended(client, created["id"])) == outcome
    assert await left(connection) == (0, 1, 0)


async def test_message_id_is_kept_and_death_headers_are_not(
    idle_client: httpx.AsyncClient, dsn: str, connection: asyncpg.Connection, broker: InProcessBroker
) -> None:
    headers = json.dumps(
        {"x-death": [{"count": 1}], "x-first-death-reason": "expired", "traceparent": "00-1"}
    )
    ids = await bury(connection, "o1:1", headers=headers)
    probe = Probe(outcomes={"o1:1": RetryLater(reason="look at me")})

    async with running(dsn, broker, probe) as client:
        created = await post(client, "/admin/replays", 201, ids=ids, failure_share_max=1, **RUN)
        await ended(client, created["id"])

    row = await connection.fetchrow("SELECT message_id, headers::text, attempts FROM retry_queue")
    assert row is not None
    assert (row["message_id"], json.loads(row["headers"]), row["attempts"]) == (
        "o1:1",
        {"traceparent": "00-1"},
        1,
    )


async def test_rows_of_the_outbox_are_published_again(
    client: httpx.AsyncClient, connection: asyncpg.Connection, broker: InProcessBroker, probe: Probe
) -> None:
    message_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    await bury(connection, message_id, source="outbox", event_type="away", body=b"{}")

    async with broker.subscribe("elsewhere", ["away"], prefetch=10) as elsewhere:
        created = await post(client, "/admin/replays", 201, filter={"source": "outbox"}, **RUN)
        [delivery] = await elsewhere.receive(1)
        before = await get(client, f"/admin/replays/{created['id']}")
        await elsewhere.acknowledge(delivery)
        replay = await ended(client, created["id"])

    assert before["in_flight"] == 1
    assert delivery.message_id == message_id
    assert counts(replay) == (1, 0, 0, 0)


async def test_while_nobody_takes_ours_they_wait_and_the_others_run(
    client: httpx.AsyncClient, connection: asyncpg.Connection, broker: InProcessBroker
) -> None:
    message_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    [ours] = await bury(connection, message_id, source="outbox", event_type="away")
    others = await bury(connection, *(f"o{number}:1" for number in range(5)))

    waiting = await post(client, "/admin/replays", 201, ids=[ours], **RUN)
    moving = await post(client, "/admin/replays", 201, ids=others, **RUN)
    assert counts(await ended(client, moving["id"])) == (5, 0, 0, 0)
    assert counts(await get(client, f"/admin/replays/{waiting['id']}")) == (0, 0, 0, 1)
    assert await left(connection) == (0, 0, 1)

    async with broker.subscribe("elsewhere", ["away"], prefetch=10) as elsewhere:
        [delivery] = await elsewhere.receive(1)
        await elsewhere.acknowledge(delivery)
        assert counts(await ended(client, waiting["id"])) == (1, 0, 0, 0)


@pytest.mark.timeout(300)
async def test_ten_thousand_letters_are_replayed_with_progress_to_see(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    await connection.execute(
        """
        INSERT INTO dead_letter_queue (source, event_key, original_event_type, body, failure_reason, attempts)
        SELECT 'consumer', 'o' || n || ':1', 'event', convert_to('{"key":"o' || n || ':1"}', 'UTF8'), 'x', 1
        FROM generate_series(1, 10000) AS n
        """
    )
    created = await post(client, "/admin/replays", 201, filter={}, **RUN)

    await eventually(lambda: len(probe.handled) > 1_000, within_seconds=240)
    seen = await get(client, f"/admin/replays/{created['id']}")
    await eventually(lambda: len(probe.handled) >= 10_000, within_seconds=240)

    assert seen["state"] == "running"
    assert 800 < seen["handled"] < 10_000
    assert counts(await ended(client, created["id"])) == (10_000, 0, 0, 0)
    assert len(probe.handled) == len(set(probe.handled)) == 10_000
    assert await left(connection) == (0, 0, 0)


# stopping


async def test_it_stops_at_the_first_letter_when_the_cause_is_not_mended(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    keys = [f"o{number}:1" for number in range(30)]
    probe.outcomes = {key: Never(reason="still broken") for key in keys}
    await bury(connection, *keys)

    created = await post(client, "/admin/replays", 201, filter={}, **RUN)
    stopped = await ended(client, created["id"], state="stopped")

    assert counts(stopped) == (0, 0, 1, 29)
    assert stopped["stopped_because"] == "1 of 1 letters of step 1 failed: more than 10%"
    assert await left(connection) == (30, 0, 0)

    probe.outcomes.clear()
    resumed = await post(client, f"/admin/replays/{created['id']}/resume")
    finished = await ended(client, created["id"])

    assert (resumed["state"], resumed["stopped_because"]) == ("running", None)
    assert counts(finished) == (29, 0, 1, 0)
    assert await left(connection) == (
        1,
        0,
        0,
    )  # that which had failed was set aside anew, and is not taken again


async def test_a_few_failures_within_the_share_stop_nothing(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    keys = [f"o{number}:1" for number in range(111)]
    probe.outcomes = {keys[5]: Never(reason="broken"), keys[50]: RetryLater(reason="later")}
    await bury(connection, *keys)

    created = await post(client, "/admin/replays", 201, filter={}, failure_share_max=0.1, **RUN)

    assert counts(await ended(client, created["id"])) == (109, 0, 2, 0)


async def test_no_failure_at_all_may_be_asked_for(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    keys = [f"o{number}:1" for number in range(111)]
    probe.outcomes = {keys[50]: RetryLater(reason="later")}
    await bury(connection, *keys)

    created = await post(client, "/admin/replays", 201, filter={}, failure_share_max=0, **RUN)

    stopped = await ended(client, created["id"], state="stopped")
    assert stopped["failed"] == 1 and stopped["step"] == 3


# an operator in between


async def slow_replay(client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe) -> int:
    """One that hands over a letter in two seconds, and has begun."""
    await bury(connection, *(f"o{number}:1" for number in range(20)))
    created = await post(client, "/admin/replays", 201, filter={}, per_second=0.5)
    await eventually(lambda: probe.handled)
    return int(created["id"])


async def test_it_can_be_paused_and_resumed(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    replay_id = await slow_replay(client, connection, probe)

    paused = await post(client, f"/admin/replays/{replay_id}/pause", reason="lunch")
    await ended(client, replay_id, state="paused")
    handled = len(probe.handled)
    assert paused["state"] == "paused" and paused["remaining"] > 0

    again = await client.post(f"/admin/replays/{replay_id}/pause", json={"reason": "x"})
    assert (again.status_code, again.json()["error_type"]) == (409, "ReplayStateConflict")
    assert len(probe.handled) == handled

    resumed = await post(client, f"/admin/replays/{replay_id}/resume")
    assert resumed["state"] == "running"
    await eventually(lambda: len(probe.handled) > handled)
    await post(client, f"/admin/replays/{replay_id}/cancel")


async def test_what_is_cancelled_stays_with_the_dead_letters_and_can_be_replayed_anew(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    replay_id = await slow_replay(client, connection, probe)

    cancelled = await post(client, f"/admin/replays/{replay_id}/cancel", reason="the wrong ones")
    replay = await ended(client, replay_id, state="cancelled")

    assert cancelled["finished_at"] is not None
    assert replay["remaining"] + len(probe.handled) == 20
    again = await post(client, "/admin/replays", 201, filter={}, **RUN)
    assert again["total"] == replay["remaining"]
    assert counts(await ended(client, again["id"])) == (replay["remaining"], 0, 0, 0)
    for how in ("pause", "resume", "cancel"):
        problem = await post(client, f"/admin/replays/{replay_id}/{how}", 409)
        assert problem["error_type"] == "ReplayStateConflict"


async def test_each_change_is_in_the_audit_log_with_its_reason(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    replay_id = await slow_replay(client, connection, probe)
    for how in ("pause", "resume", "cancel"):
        await post(client, f"/admin/replays/{replay_id}/{how}", reason=f"to {how}")

    entries = await audited(connection)

    assert [(entry["operator"], entry["action"], entry["target"], entry["reason"]) for entry in entries] == [
        ("Anna", "replay.start", f"replay {replay_id}", "a test"),
        ("Anna", "replay.pause", f"replay {replay_id}", "to pause"),
        ("Anna", "replay.resume", f"replay {replay_id}", "to resume"),
        ("Anna", "replay.cancel", f"replay {replay_id}", "to cancel"),
    ]
    details = json.loads(entries[0]["details"])
    assert details["total"] == 20 and details["forecast"]["will_run"] == 20


# twice, and at once


async def test_replaying_twice_is_harmless(
    client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    ids = await bury(connection, "o1:1", "o2:1")
    created = await post(client, "/admin/replays", 201, ids=ids, **RUN)
    await ended(client, created["id"])

    again = await post(client, "/admin/replays", 404, ids=ids, **RUN)

    assert again["error_type"] == "DeadLetterNotFound"
    assert sorted(probe.handled) == ["o1:1", "o2:1"]


async def test_two_operators_at_once_replay_each_letter_once(
    client: httpx.AsyncClient, dsn: str, connection: asyncpg.Connection, broker: InProcessBroker, probe: Probe
) -> None:
    ids = await bury(connection, *(f"o{number}:1" for number in range(40)))

    async with running(dsn, InProcessBroker(), probe) as other:
        answers = await asyncio.gather(
            *(
                who.post("/admin/replays", json={"ids": some, "reason": "x", **RUN}, headers=HEADERS)
                for who in (client, other)
                for some in (ids, ids[::-1], ids[20:] + ids[:20])
            )
        )
        replays = [answer.json() for answer in answers if answer.status_code == 201]
        refused = [answer.json() for answer in answers if answer.status_code != 201]
        for replay in replays:
            await ended(client, replay["id"])

    assert sum(replay["total"] for replay in replays) == 40
    assert {problem["error_type"] for problem in refused} <= {"ReplayedAlready", "DeadLetterNotFound"}
    assert sorted(probe.handled) == sorted(f"o{number}:1" for number in range(40))


async def test_a_letter_in_an_active_replay_is_left_to_it_and_the_answer_says_so(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    [first, second, third] = await bury(connection, "a:1", "b:1", "c:1")

    one = await post(idle_client, "/admin/replays", 201, ids=[first, second])
    other = await post(idle_client, "/admin/replays", 201, ids=[second, third, 999])
    none = await post(idle_client, "/admin/replays", 409, ids=[first, third])

    assert (one["total"], other["total"]) == (2, 1)
    assert (other["in_other_replays"], other["not_found"]) == (1, 1)
    assert none["error_type"] == "ReplayedAlready"
    page = await get(idle_client, "/admin/dead-letters")
    assert [letter["replay_id"] for letter in page["dead_letters"]] == [other["id"], one["id"], one["id"]]
    assert await connection.fetchval("SELECT count(*) FROM replays") == 2


async def test_what_was_discarded_or_replayed_by_command_meanwhile_is_skipped(
    idle_client: httpx.AsyncClient,
    dsn: str,
    connection: asyncpg.Connection,
    broker: InProcessBroker,
    probe: Probe,
) -> None:
    ids = await bury(connection, *(f"o{number}:1" for number in range(10)))
    created = await post(idle_client, "/admin/replays", 201, ids=ids, **RUN)
    await post(idle_client, "/admin/dead-letters/discard", ids=ids[:4])

    async with running(dsn, InProcessBroker(), probe) as client:
        assert counts(await ended(client, created["id"])) == (6, 4, 0, 0)
    assert len(probe.handled) == 6


async def test_two_instances_share_the_work_and_do_nothing_twice(
    client: httpx.AsyncClient, dsn: str, connection: asyncpg.Connection, probe: Probe
) -> None:
    others = Probe()
    await bury(connection, *(f"o{number}:1" for number in range(300)))
    async with running(dsn, InProcessBroker(), others) as other:
        created = await post(other, "/admin/replays", 201, filter={}, **RUN)
        replay = await ended(client, created["id"])

    assert counts(replay) == (300, 0, 0, 0)
    assert sorted(probe.handled + others.handled) == sorted(f"o{number}:1" for number in range(300))


async def test_runners_that_take_a_replay_from_each_other_count_nothing_twice(
    client: httpx.AsyncClient, database: Database, connection: asyncpg.Connection, probe: Probe
) -> None:
    """Leases that run out at once: as if each move took longer than its lease."""
    await bury(connection, *(f"o{number}:1" for number in range(250)))
    forecasts = Forecasts(database, probe.decode, probe.foresee)
    runners = [ReplayRunner(database, forecasts, wakeup=Wakeup(), lease_seconds=0.0) for _ in range(4)]
    tasks = [asyncio.ensure_future(runner.run()) for runner in runners]
    try:
        created = await post(client, "/admin/replays", 201, filter={}, **RUN)
        replay = await ended(client, created["id"])
    finally:
        for runner in runners:
            runner.stop()
        await asyncio.gather(*tasks)

    assert counts(replay) == (250, 0, 0, 0)
    assert sorted(probe.handled) == sorted(f"o{number}:1" for number in range(250))
    steps = await connection.fetch("SELECT count(*) FROM replay_items GROUP BY step ORDER BY step")
    assert [row["count"] for row in steps] == [1, 10, 100, 100, 39]


# what is asked for


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"per_second": 0}, "per_second"),
        ({"per_second": -1}, "per_second"),
        ({"per_second": 10_001}, "per_second"),
        ({"per_second": "fast"}, "per_second"),
        ({"failure_share_max": 1.1}, "failure_share_max"),
        ({"failure_share_max": -0.1}, "failure_share_max"),
        ({"failure_share_max": None}, "failure_share_max"),
    ],
)
async def test_a_bad_pace_is_told(
    idle_client: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    problem = await post(idle_client, "/admin/replays", 400, ids=[1], **body)

    assert problem["errors"][0]["loc"] == ["body", field]


@pytest.mark.parametrize("replay_id", ["1", "0", "-1", "abc", "9" * 19, "9" * 5000])
async def test_an_unknown_replay_is_404(idle_client: httpx.AsyncClient, replay_id: str) -> None:
    assert (await get(idle_client, f"/admin/replays/{replay_id}", 404))["error_type"] == "ReplayNotFound"
    for how in ("pause", "resume", "cancel"):
        problem = await post(idle_client, f"/admin/replays/{replay_id}/{how}", 404)
        assert problem["error_type"] == "ReplayNotFound"


async def test_replays_are_listed_from_the_newest(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    ids = await bury(connection, "a:1", "b:1", "c:1")
    created = [(await post(idle_client, "/admin/replays", 201, ids=[letter]))["id"] for letter in ids]

    first = await get(idle_client, "/admin/replays", limit=2)
    second = await get(idle_client, "/admin/replays", limit=2, after=first["replays"][-1]["id"])

    assert [replay["id"] for replay in first["replays"] + second["replays"]] == created[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert first["replays"][0] == await get(idle_client, f"/admin/replays/{created[-1]}")


async def test_which_letters_a_replay_took_is_forgotten_a_while_after_its_end(
    client: httpx.AsyncClient, connection: asyncpg.Connection, database: Database
) -> None:
    replays = []
    for number in range(2):
        ids = await bury(connection, f"o{number}:1")
        created = await post(client, "/admin/replays", 201, ids=ids, **RUN)
        replays.append((await ended(client, created["id"]))["id"])
    await connection.execute(
        "UPDATE replays SET finished_at = now() - interval '31 days' WHERE id = $1", replays[0]
    )

    await ReplayItemsCleaner(database, retention_days=30, interval_seconds=0).run_once()

    kept = await connection.fetch("SELECT replay_id FROM replay_items")
    assert [row["replay_id"] for row in kept] == replays[1:]
    assert len((await get(client, "/admin/replays"))["replays"]) == 2
