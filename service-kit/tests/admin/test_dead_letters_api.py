"""Dead letters over HTTP: looked at, grouped, forecast, discarded."""

import base64
import json
from typing import Any

import asyncpg
import httpx
import pytest

from service_kit.broker import PublishOutcome
from service_kit.consumer import Never, RetryLater
from service_kit.inprocess import InProcessBroker
from service_kit.testing.eventually import eventually

from .conftest import Probe, audited, bury, get, message, post

HOSTILE = "<script>alert(1)</script>\u202e\u2066\x00\"'\\ \ud800"


async def ids_of(client: httpx.AsyncClient, **params: Any) -> list[int]:
    return [letter["id"] for letter in (await get(client, "/admin/dead-letters", **params))["dead_letters"]]


# looking


async def test_a_letter_is_told_with_all_that_is_known(
    client: httpx.AsyncClient, broker: InProcessBroker, probe: Probe
) -> None:
    probe.outcomes["o1:1"] = Never(reason="no stock for 'pizza'")
    assert await broker.publisher().publish([message("o1:1")]) == [PublishOutcome.CONFIRMED]

    page = await get(client, "/admin/dead-letters")
    letter = await get(client, f"/admin/dead-letters/{page['dead_letters'][0]['id']}")

    assert page == {
        "dead_letters": [
            {
                "id": letter["id"],
                "source": "consumer",
                "event_type": "event",
                "event_key": "o1:1",
                "subject": "o1",
                "reason": "no stock for 'pizza'",
                "group": letter["group"],
                "attempts": 1,
                "times_seen": 1,
                "moved_at": letter["moved_at"],
                "last_seen_at": letter["last_seen_at"],
                "size": 14,
                "replay_id": None,
            }
        ],
        "has_more": False,
    }
    assert letter.items() >= page["dead_letters"][0].items()
    assert letter["message_id"] == "o1:1"
    assert letter["headers"] == {}
    assert letter["body"] == '{"key":"o1:1"}'
    assert base64.b64decode(letter["body_base64"]) == b'{"key":"o1:1"}'
    assert letter["moved_at"].endswith("Z") and letter["first_failed_at"] <= letter["moved_at"]


async def test_the_first_failure_is_remembered_through_all_attempts(
    client: httpx.AsyncClient, broker: InProcessBroker, probe: Probe, connection: asyncpg.Connection
) -> None:
    probe.outcomes["o1:1"] = RetryLater(reason="not yet")
    await broker.publisher().publish([message("o1:1")])
    await connection.execute(
        "UPDATE retry_queue SET first_failed_at = '2026-01-02T03:04:05Z', due_at = now()"
    )

    async def is_dead() -> bool:
        return bool(await ids_of(client))

    await eventually(is_dead)
    [letter_id] = await ids_of(client)
    assert (await get(client, f"/admin/dead-letters/{letter_id}"))[
        "first_failed_at"
    ] == "2026-01-02T03:04:05Z"


async def test_pages_go_from_the_newest_to_the_oldest(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    ids = await bury(connection, *(f"o{number}:1" for number in range(5)))

    first = await get(idle_client, "/admin/dead-letters", limit=2)
    second = await get(idle_client, "/admin/dead-letters", limit=2, after=first["dead_letters"][-1]["id"])
    third = await get(idle_client, "/admin/dead-letters", limit=2, after=second["dead_letters"][-1]["id"])

    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    pages = [*first["dead_letters"], *second["dead_letters"], *third["dead_letters"]]
    assert [letter["id"] for letter in pages] == ids[::-1]


async def test_a_page_goes_on_behind_a_letter_that_is_gone(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    ids = await bury(connection, "a:1", "b:1", "c:1")
    await connection.execute("DELETE FROM dead_letter_queue WHERE id = $1", ids[1])

    assert await ids_of(idle_client, after=ids[1]) == [ids[0]]


async def test_letters_are_filtered(idle_client: httpx.AsyncClient, connection: asyncpg.Connection) -> None:
    [old] = await bury(connection, "o1:1", reason="broken 17", moved_at="2026-01-01T00:00:00Z")
    [other] = await bury(connection, "o2:1", event_type="another", moved_at="2026-02-01T00:00:00Z")
    [ours] = await bury(connection, "o1:2", source="outbox", moved_at="2026-03-01T00:00:00Z")
    [new] = await bury(connection, "o3:1", reason="broken 18", moved_at="2026-04-01T00:00:00Z")
    groups = {
        letter["id"]: letter["group"]
        for letter in (await get(idle_client, "/admin/dead-letters"))["dead_letters"]
    }

    assert groups[old] == groups[new] != groups[ours]
    for params, expected in (
        ({"event_type": "another"}, [other]),
        ({"group": groups[old]}, [new, old]),
        ({"subject": "o1"}, [ours, old]),
        ({"source": "outbox"}, [ours]),
        ({"source": "consumer", "event_type": "event"}, [new, old]),
        ({"since": "2026-02-01T00:00:00Z"}, [new, ours, other]),
        ({"until": "2026-02-01T00:00:00Z"}, [old]),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}, [ours, other]),
        ({"since": "2026-02-01T00:00:00+00:00", "group": groups[old]}, [new]),
        ({"since": "2027-01-01T00:00:00Z"}, []),
        ({"until": "2025-01-01T00:00:00Z"}, []),
        ({"group": "0" * 16}, []),
        ({"subject": "o1' OR true --"}, []),
        ({"subject": "o1", "event_type": "event", "group": groups[old], "source": "consumer"}, [old]),
    ):
        assert await ids_of(idle_client, **params) == expected, params


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"subject": ""}, "subject"),
        ({"since": ""}, "since"),
        ({"since": "0.5"}, "since"),
        ({"until": "1764288000"}, "until"),
        ({"limit": ""}, "limit"),
        ({"limit": "1e1"}, "limit"),
        ({"limit": "10.0"}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after": "0"}, "after"),
        ({"after": "-5"}, "after"),
        ({"after": "9223372036854775808"}, "after"),
        ({"after": "abc"}, "after"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-01-01T00:00:00"}, "until"),
        ({"group": "xyz"}, "group"),
        ({"source": "elsewhere"}, "source"),
        ({"subject": "a\x00b"}, "subject"),
        ({"subject": "x" * 1001}, "subject"),
    ],
)
async def test_a_bad_filter_is_told(
    idle_client: httpx.AsyncClient, params: dict[str, str], name: str
) -> None:
    problem = await get(idle_client, "/admin/dead-letters", 400, **params)

    assert problem["error_type"] == "ValidationError"
    assert problem["errors"][0]["loc"] == ["query", name]


@pytest.mark.parametrize(
    ("query", "words"),
    [("subjects=o1", "is not a known parameter"), ("subject=o1&subject=o2", "is given more than once")],
)
async def test_no_part_of_a_filter_is_ignored(idle_client: httpx.AsyncClient, query: str, words: str) -> None:
    problem = await get(idle_client, f"/admin/dead-letters?{query}", 400)

    assert problem["errors"] == [{"loc": ["query", query.partition("=")[0]], "msg": words}]


@pytest.mark.parametrize("letter_id", ["1", "0", "-1", "abc", "9" * 19, "9" * 5000, "1%00", "١"])
async def test_a_letter_that_is_not_there_is_404(idle_client: httpx.AsyncClient, letter_id: str) -> None:
    answer = await idle_client.get(f"/admin/dead-letters/{letter_id}")

    assert answer.json()["error_type"] in ("DeadLetterNotFound", "BadRequest")
    assert answer.status_code in (404, 400)


# hostile content


async def test_what_strangers_sent_comes_back_as_data(
    client: httpx.AsyncClient, broker: InProcessBroker, connection: asyncpg.Connection
) -> None:
    bodies = [
        json.dumps({"evil": HOSTILE}).encode(),
        HOSTILE.encode("utf-8", "surrogatepass"),
        b"<script>alert(1)</script>",
        "\u202e\u2066{}".encode(),
        b"\x00\xff\xfe",
        b"x" * 2_000_000,
        b"[" * 100_000,
        b"",
    ]
    for number, body in enumerate(bodies):
        sent = message(f"m{number}:1")
        await broker.publisher().publish(
            [type(sent)(routing_key="event", body=body, message_id=sent.message_id)]
        )

    page = await client.get("/admin/dead-letters")

    assert page.headers["content-type"] == "application/json"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    letters = page.json()["dead_letters"][::-1]
    assert len(letters) == len(bodies)
    for letter, body in zip(letters, bodies, strict=True):
        found = await get(client, f"/admin/dead-letters/{letter['id']}")
        assert base64.b64decode(found["body_base64"]) == body
        assert letter["size"] == len(body)
        if found["body"] is not None:
            assert found["body"].encode() == body
        assert letter["replay_id"] is None
    forecast = await post_plain(client, "/admin/dead-letters/forecast", {"filter": {}})
    assert forecast["will_fail_again"] == len(bodies)


async def test_hostile_reasons_and_headers_come_back_as_data(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    reason = "<script>alert(1)</script>\u202e" + "x" * 500_000
    headers = json.dumps(
        {"x-<b>": "</script>\u2066", "number": 18446744073709551616123, "nested": [{"a": 1.5}]}
    )
    [letter_id] = await bury(connection, "o1:1", reason=reason, headers=headers)

    page = await get(idle_client, "/admin/dead-letters")
    letter = await get(idle_client, f"/admin/dead-letters/{letter_id}")
    groups = await get(idle_client, "/admin/dead-letters/groups")

    assert page["dead_letters"][0]["reason"] == reason[:1000]
    assert letter["reason"] == reason
    assert letter["headers"] == json.loads(headers)
    assert groups["groups"][0]["reason"] == reason[:1000].replace("1", "*")


# groups


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("there is no order 'a'", "there is no order 'b c'"),
        ('no stock of "x"', 'no stock of "y"'),
        (
            "Expected `str`, got `int` - at `$.items[0].sku`",
            "Expected `str`, got `int` - at `$.items[17].sku`",
        ),
        ("order ord-2026-0001 is unknown", "order ord-2027-9 is unknown"),
        ("no answer for 3.25 s", "no answer for 10 s"),
        ("at 2026-01-02T03:04:05.678Z", "at 2027-12-31T23:59:59.000Z"),
        ("row 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "row 0f8fad5b-d9cb-469f-a165-70867728950e"),
        (
            "the message has 1572865 bytes, more than 1572864",
            "the message has 3000000 bytes, more than 1572864",
        ),
        ("JSON is malformed: invalid character (byte 12)", "JSON is malformed: invalid character (byte 9)"),
    ],
)
async def test_reasons_that_differ_in_names_and_numbers_are_one_group(
    connection: asyncpg.Connection, one: str, other: str
) -> None:
    await bury(connection, "a:1", reason=one)
    await bury(connection, "b:1", reason=other)

    assert await connection.fetchval("SELECT count(DISTINCT group_id) FROM dead_letter_queue") == 1


async def test_reasons_of_another_kind_or_event_are_another_group(connection: asyncpg.Connection) -> None:
    await bury(connection, "a:1", reason="no stock of 'a'")
    await bury(connection, "b:1", reason="no price of 'a'")
    await bury(connection, "c:1", reason="no stock of 'a'", event_type="another")

    assert await connection.fetchval("SELECT count(DISTINCT group_id) FROM dead_letter_queue") == 3


async def test_groups_are_counted_from_the_largest(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    oldest, *_, newest = await bury(connection, "a:1", "b:1", "c:1", reason="no stock of 'a'")
    await bury(connection, "d:1", reason="no price of 'a'", event_type="another")

    answer = await get(idle_client, "/admin/dead-letters/groups")

    assert answer["total"] == 4 and not answer["has_more"]
    many, few = answer["groups"]
    times = {
        row["id"]: row["at"]
        for row in await connection.fetch("SELECT id, moved_to_dlq_at AS at FROM dead_letter_queue")
    }
    assert (many["count"], many["event_type"], many["reason"]) == (3, "event", "no stock of *")
    assert many["example_id"] == newest
    assert many["first_at"][:19] == f"{times[oldest]:%Y-%m-%dT%H:%M:%S}"
    assert (few["count"], few["event_type"], few["reason"]) == (1, "another", "no price of *")
    assert await get(idle_client, "/admin/dead-letters/groups", limit=1) == {
        "groups": [many],
        "total": 4,
        "has_more": True,
    }


async def test_groups_are_counted_exactly_through_all_changes(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    async def counted() -> dict[str, int]:
        groups = (await get(idle_client, "/admin/dead-letters/groups"))["groups"]
        return {group["reason"]: group["count"] for group in groups}

    ids = await bury(connection, *(f"o{number}:1" for number in range(10)), reason="one reason")
    assert await counted() == {"one reason": 10}
    await connection.execute("UPDATE dead_letter_queue SET failure_reason = 'another' WHERE id < $1", ids[4])
    assert await counted() == {"one reason": 6, "another": 4}
    await connection.execute("UPDATE dead_letter_queue SET times_seen = 2")
    assert await counted() == {"one reason": 6, "another": 4}
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM dead_letter_queue")
    assert await counted() == {"one reason": 6, "another": 4}
    await transaction.rollback()
    await connection.execute("DELETE FROM dead_letter_queue WHERE id >= $1", ids[4])
    assert await counted() == {"another": 4}
    await connection.execute("TRUNCATE dead_letter_queue")
    assert await counted() == {}


# forecast


async def post_plain(
    client: httpx.AsyncClient, path: str, body: object, status: int = 200
) -> dict[str, object]:
    answer = await client.post(path, content=json.dumps(body))
    assert answer.status_code == status, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_a_forecast_decodes_each_letter_and_looks_at_what_is_stored(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection, probe: Probe
) -> None:
    probe.done = {"done:1"}
    [new, done] = await bury(connection, "new:1", "done:1")
    [broken] = await bury(connection, "broken", body=b'{"name": 1}')
    [mended] = await bury(connection, "malformed:abc", body=b'{"key": "mended:1"}')
    [several] = await bury(connection, "several", body=b'[{"key": "done:1"}, {"key": "x:1"}]')
    [ours] = await bury(connection, "ours", source="outbox")

    forecast = await post_plain(
        idle_client, "/admin/dead-letters/forecast", {"ids": [new, done, broken, mended, several, ours, 999]}
    )

    examples = {example["id"]: example for example in forecast.pop("examples")}  # type: ignore[attr-defined]
    assert forecast == {
        "total": 6,
        "will_run": 4,
        "already_processed": 1,
        "will_fail_again": 1,
        "unexamined": 0,
    }
    assert examples[new] == {"id": new, "forecast": "will_run", "why": "it is new"}
    assert examples[done] == {"id": done, "forecast": "already_processed", "why": "it was handled"}
    assert examples[broken]["forecast"] == "will_fail_again"
    assert "no key" in examples[broken]["why"]
    assert examples[mended]["forecast"] == examples[several]["forecast"] == "will_run"
    assert examples[ours] == {"id": ours, "forecast": "will_run", "why": "it is published again"}
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 6


async def test_one_event_that_nothing_can_be_said_of_spoils_no_other_forecast(
    dsn: str, connection: asyncpg.Connection, broker: InProcessBroker
) -> None:
    from .conftest import ProbeEvent, running

    class Failing(Probe):
        async def foresee(self, events):  # type: ignore[no-untyped-def]
            if any(event.key == "bad:1" for event in events):
                raise ValueError(f"cannot be looked up {HOSTILE}")
            return await super().foresee(events)

    await bury(connection, *(f"o{number}:1" for number in range(7)), "bad:1")
    assert ProbeEvent("bad:1").subject == "bad"
    async with running(dsn, broker, Failing(), runs=False) as client:
        forecast = await post_plain(client, "/admin/dead-letters/forecast", {"filter": {}})

    assert (forecast["will_run"], forecast["will_fail_again"]) == (7, 1)


async def test_a_forecast_of_very_many_letters_looks_at_the_first_ten_thousand(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await fill(connection, 10_002)

    forecast = await post_plain(
        idle_client, "/admin/dead-letters/forecast", {"filter": {"event_type": "event"}}
    )

    assert (forecast["total"], forecast["will_run"], forecast["unexamined"]) == (10_002, 10_000, 2)
    assert len(forecast["examples"]) == 5  # type: ignore[arg-type]


# discard


async def test_discarding_needs_a_reason_and_leaves_a_trace(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    first, second, third = await bury(connection, "a:1", "b:1", "c:1")

    assert await post(idle_client, "/admin/dead-letters/discard", ids=[first, second, second, 999]) == {
        "discarded": 2
    }

    assert await ids_of(idle_client) == [third]
    [entry] = await audited(connection)
    assert (entry["operator"], entry["action"], entry["reason"]) == ("Anna", "dead_letters.discard", "a test")
    details = json.loads(entry["details"])
    assert details["discarded"] == 2
    assert details["event_keys"] == ["a:1", "b:1"]
    assert details["selection"]["ids"] == [first, second, second, 999]


async def test_discarding_what_is_not_there_changes_and_notes_nothing(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    assert await post(idle_client, "/admin/dead-letters/discard", ids=[1]) == {"discarded": 0}
    assert await audited(connection) == []


async def test_a_filter_discards_all_that_it_finds(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await bury(connection, "a:1", "b:1", reason="no stock")
    [kept] = await bury(connection, "c:1", reason="no price")
    group = await connection.fetchval("SELECT group_id FROM dead_letter_queue LIMIT 1")

    assert await post(idle_client, "/admin/dead-letters/discard", filter={"group": group}) == {"discarded": 2}
    assert await ids_of(idle_client) == [kept]


@pytest.mark.parametrize("path", ["/admin/dead-letters/discard", "/admin/replays"])
@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body"]),
        ({"reason": ""}, ["body", "reason"]),
        ({"reason": "  \n "}, ["body", "reason"]),
        ({"reason": "x" * 1001}, ["body", "reason"]),
        ({"reason": "a\x00b"}, ["body", "reason"]),
        ({"reason": "a\ud800b"}, ["body"]),
        ({"reason": 5}, ["body", "reason"]),
        ({"reason": "x"}, ["body"]),
        ({"reason": "x", "ids": [1], "filter": {}}, ["body"]),
        ({"reason": "x", "ids": []}, ["body", "ids"]),
        ({"reason": "x", "ids": list(range(1, 10_002))}, ["body", "ids"]),
        ({"reason": "x", "ids": [0]}, ["body", "ids", 0]),
        ({"reason": "x", "ids": [1, 2**63]}, ["body", "ids", 1]),
        ({"reason": "x", "ids": [1, "2"]}, ["body", "ids", 1]),
        ({"reason": "x", "filter": {"subject": "a\ud800"}}, ["body"]),
        ({"reason": "x", "filter": {"subject": "a\x00"}}, ["body", "filter", "subject"]),
        ({"reason": "x", "filter": {"sbject": "a"}}, ["body", "filter"]),
        ({"reason": "x", "filter": {"subject": None}}, ["body", "filter", "subject"]),
        ({"reason": "x", "filter": None}, ["body", "filter"]),
        ({"reason": "x", "ids": [1], "filter": None}, ["body", "filter"]),
        ({"reason": "x", "filter": {"since": "2026-01-01T00:00:00"}}, ["body", "filter", "since"]),
        ({"reason": "x", "ids": [1], "more": 1}, ["body"]),
        ([], ["body"]),
    ],
)
async def test_a_bad_selection_is_told(
    idle_client: httpx.AsyncClient, path: str, body: object, loc: list[object]
) -> None:
    problem = await post_plain(idle_client, path, body, 400)

    assert problem["error_type"] == "ValidationError"
    assert problem["errors"][0]["loc"] == loc  # type: ignore[index]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 200_000, b"null", b'{"reason": "\\ud800"'])
async def test_a_body_that_is_no_json_is_told(idle_client: httpx.AsyncClient, raw: bytes) -> None:
    answer = await idle_client.post("/admin/dead-letters/discard", content=raw)

    assert (answer.status_code, answer.json()["error_type"]) == (400, "ValidationError")


async def test_a_body_that_is_too_large_is_refused(idle_client: httpx.AsyncClient) -> None:
    answer = await idle_client.post("/admin/dead-letters/discard", content=b" " * 1_048_577)

    assert (answer.status_code, answer.json()["error_type"]) == (413, "PayloadTooLarge")


async def test_more_than_a_hundred_thousand_at_once_are_refused(
    idle_client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await fill(connection, 100_001)

    for path in ("/admin/dead-letters/discard", "/admin/replays"):
        problem = await post(idle_client, path, 400, filter={})
        assert problem["error_type"] == "SelectionTooLarge"
    assert await connection.fetchval("SELECT count(*) FROM dead_letter_queue") == 100_001
    assert await audited(connection) == []


async def fill(connection: asyncpg.Connection, count: int) -> None:
    await connection.execute(
        """
        INSERT INTO dead_letter_queue
            (source, event_key, original_event_type, body, headers, failure_reason, attempts, subject)
        SELECT 'consumer', 'o' || n || ':1', 'event', convert_to('{"key":"o' || n || ':1"}', 'UTF8'), '{}',
            'no stock', 1, 'o' || n
        FROM generate_series(1, $1::int) AS n
        """,
        count,
    )
