"""Where the events about one subject are: noted when they are published, and found again within bounds."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from service_kit.failures import FailedEvent, Postponed, storable
from service_kit.outbox import OutboxEvent
from service_kit.postgres import whereabouts as looking
from service_kit.postgres.database import Database
from service_kit.postgres.dead_letters import PostgresDeadLetters
from service_kit.postgres.failures import PostgresFailures
from service_kit.postgres.housekeeping import PublicationsCleaner
from service_kit.postgres.outbox import PostgresOutbox, add_to_outbox
from service_kit.postgres.whereabouts import TO_THE_END, whereabouts
from service_kit.retry import RetryPolicy
from service_kit.whereabouts import Whereabouts

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
HARD_SUBJECTS = ["o-1", "заказ", "{a,b}", "NULL", 'a"b\\c', "'; --", " ", "🍕" * 255]

NOTE = """
INSERT INTO publications (event_type, relay, published_at, confirmed_at, subjects)
SELECT 'order.created', 'r', at, at, ARRAY['filler ' || number]
FROM generate_series(1, $1) AS number, LATERAL (SELECT $2::timestamptz + number * interval '1 s') AS t (at)
"""


def outbox(database: Database, *, attempts_max: int = 10) -> PostgresOutbox:
    return PostgresOutbox(
        database,
        random=Random(0),
        retry_policy=RetryPolicy(attempts_max=attempts_max),
        instance="relay-1",
        subject_field="order_id",
    )


async def write(database: Database, *subjects: object, event_type: str = "order.created") -> None:
    events = [
        OutboxEvent(event_type=event_type, payload=_event(subject), traceparent="trace")
        for subject in subjects
    ]
    async with database.transaction() as connection:
        await add_to_outbox(connection, events)


def _event(subject: object) -> bytes:
    return json.dumps({"order_id": subject} if subject is not None else {"number": 1}).encode()


async def publish(database: Database, *, seconds: float = 0.0) -> None:
    async with outbox(database).claim(100) as claim:
        await claim.settle(published=[row.id for row in claim.rows], rejected={}, publish_seconds=seconds)


async def reject(database: Database, reason: str, *, attempts_max: int = 10) -> None:
    async with outbox(database, attempts_max=attempts_max).claim(100) as claim:
        await claim.settle(published=[], rejected={row.id: reason for row in claim.rows})


async def look(
    database: Database,
    subject: str,
    *,
    since: Collection[datetime] = (LONG_AGO,),
    until: datetime = TO_THE_END,
) -> Whereabouts:
    async with database.connection() as connection:
        return await whereabouts(
            connection,
            subject,
            subject_field="order_id",
            since=[*since],
            until=until,
            waits_for=lambda event_type: f"a relay that takes {event_type}",
        )


def failed(subject: str | None, reason: str = "no stock") -> FailedEvent:
    return FailedEvent(
        event_key=f"order.created:{storable(subject or '')}:1",
        event_type="order.created",
        body=b"{}",
        message_id=None,
        headers={},
        attempt=3,
        reason=reason,
        subject=subject,
    )


async def test_a_published_event_is_found_with_who_did_it_and_when(database: Database) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    await write(database, "a", "b")
    await publish(database, seconds=2.5)

    [publication] = (await look(database, "b")).publications

    assert (publication.event_type, publication.relay) == ("order.created", "relay-1")
    assert publication.confirmed_at - publication.published_at >= timedelta(seconds=2.5)
    assert publication.confirmed_at > before


async def test_a_turn_of_the_relay_is_one_row_for_each_type(database: Database) -> None:
    await write(database, "a", "b", "c")
    await write(database, "a", event_type="order.cancelled")
    await publish(database)

    async with database.connection() as connection:
        rows = await connection.fetch("SELECT event_type, subjects FROM publications ORDER BY event_type")
    assert [(row["event_type"], sorted(row["subjects"])) for row in rows] == [
        ("order.cancelled", ["a"]),
        ("order.created", ["a", "b", "c"]),
    ]


async def test_a_turn_that_published_nothing_leaves_no_row(database: Database) -> None:
    await write(database, "a")
    await reject(database, "too odd")

    assert (await look(database, "a")).publications == []


async def test_an_event_without_a_subject_is_published_all_the_same(database: Database) -> None:
    await write(database, None, "a")
    await publish(database)

    async with database.connection() as connection:
        assert await connection.fetchval("SELECT subjects FROM publications") == ["a"]


@pytest.mark.parametrize("subject", HARD_SUBJECTS)
async def test_any_subject_is_found(database: Database, subject: str) -> None:
    await write(database, *HARD_SUBJECTS)
    await publish(database)
    await PostgresFailures(database).set_aside([], [failed(subject)])

    found = await look(database, subject)

    assert len(found.publications) == 1
    assert [halt.step for halt in found.halts] == ["dead_letter"]


async def test_a_repetition_is_another_publication(database: Database) -> None:
    for _ in range(2):
        await write(database, "a")
        await publish(database)

    first, second = (await look(database, "a")).publications
    assert first.published_at < second.published_at


async def test_what_waits_in_the_outbox_says_for_what(database: Database) -> None:
    await write(database, "a")
    await write(database, "b")

    [halt] = (await look(database, "a")).halts

    assert halt.step == "waiting"
    assert halt.detail == {
        "event_type": "order.created",
        "waits_for": "a relay that takes order.created",
        "attempts": 0,
    }


async def test_what_the_broker_rejected_waits_for_another_attempt(database: Database) -> None:
    await write(database, "a")
    await reject(database, "too odd\nTraceback (most recent call last)")

    [halt] = (await look(database, "a")).halts

    assert str(halt.detail["waits_for"]).startswith("another attempt at 20")
    assert str(halt.detail["waits_for"]).endswith("UTC, after: too odd")


async def test_retries_and_dead_letters_are_found_by_their_subject(database: Database) -> None:
    failures = PostgresFailures(database)
    await failures.set_aside([Postponed(event=failed("a"), delay_seconds=60)], [failed("b"), failed(None)])

    [retry] = (await look(database, "a")).halts
    [letter] = (await look(database, "b")).halts

    assert retry.step == "retry"
    assert {**retry.detail, "due_at": None, "id": 0} == {
        "id": 0,
        "event_type": "order.created",
        "reason": "no stock",
        "attempts": 3,
        "due_at": None,
    }
    assert letter.step == "dead_letter"
    assert {**letter.detail, "id": 0} == {
        "id": 0,
        "event_type": "order.created",
        "source": "consumer",
        "reason": "no stock",
        "attempts": 3,
        "times_seen": 1,
    }


async def test_an_event_that_died_in_the_outbox_is_found_too(database: Database) -> None:
    await write(database, "a", "x" * 256)
    await reject(database, "too odd", attempts_max=1)

    [halt] = (await look(database, "a")).halts

    assert (halt.step, halt.detail["source"], halt.detail["reason"]) == ("dead_letter", "outbox", "too odd")
    assert (await look(database, "x" * 256)).halts == []


async def test_a_replayed_letter_is_a_retry_of_the_same_subject(database: Database) -> None:
    await PostgresFailures(database).set_aside([], [failed("a")])
    [letter] = await PostgresDeadLetters(database).list(limit=1)

    await PostgresDeadLetters(database).replay([letter.id])

    assert [halt.step for halt in (await look(database, "a")).halts] == ["retry"]


@pytest.mark.parametrize(
    "subject", ["x" * 256, "a\0b" * 100, "\ud800" * 100], ids=["long", "NUL", "surrogates"]
)
async def test_a_subject_that_no_index_takes_is_left_out(database: Database, subject: str) -> None:
    await PostgresFailures(database).set_aside([], [failed(subject)])

    async with database.connection() as connection:
        assert list(map(tuple, await connection.fetch("SELECT subject FROM dead_letter_queue"))) == [(None,)]


async def test_of_a_reason_the_first_line_is_told_and_not_all_of_it(database: Database) -> None:
    await PostgresFailures(database).set_aside([], [failed("a", "x" * 10_000 + "\nat line 3")])

    [halt] = (await look(database, "a")).halts

    assert halt.detail["reason"] == "x" * 300


# bounds


async def note(database: Database, count: int, start: datetime = LONG_AGO) -> None:
    async with database.connection() as connection:
        await connection.execute(NOTE, count, start)


async def test_a_look_ends_after_so_many_publications_and_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PUBLICATIONS_LOOKED_AT_MAX", 10)
    await note(database, 20)

    assert (await look(database, "filler 5")).problems == []
    missed = await look(database, "filler 15")
    assert missed.publications == []
    assert missed.problems == ["what was published after 2020-01-01 00:00:11 UTC was not looked for"]


async def test_a_look_goes_on_from_each_moment_at_which_an_event_was_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PUBLICATIONS_LOOKED_AT_MAX", 10)
    await note(database, 20)

    again = LONG_AGO + timedelta(seconds=15)
    assert len((await look(database, "filler 15", since=[LONG_AGO, again])).publications) == 1
    assert len((await look(database, "filler 5", since=[LONG_AGO, LONG_AGO])).publications) == 1


async def test_a_look_does_not_go_beyond_its_end(database: Database) -> None:
    await note(database, 20)

    end = LONG_AGO + timedelta(seconds=10)
    assert (await look(database, "filler 15", until=end)).publications == []


async def test_a_look_at_very_many_publications_reads_only_its_share(database: Database) -> None:
    """By the rows that the plan has touched, not by the clock."""
    await note(database, 100_000)
    start = LONG_AGO + timedelta(seconds=50_000)

    async with database.connection() as connection:
        end = await connection.fetchval(looking.END_OF_LOOK, start, looking.PUBLICATIONS_LOOKED_AT_MAX)
        plan = await connection.fetch(f"EXPLAIN ANALYZE {_literal(looking.PUBLICATIONS, start, end)}")
    text = "\n".join(row[0] for row in plan)

    assert "publications_published_at" in text
    assert "Seq Scan" not in text
    assert f"Rows Removed by Filter: {looking.PUBLICATIONS_LOOKED_AT_MAX}" in text


def _literal(statement: str, start: datetime, end: datetime) -> str:
    values = (f"'{start.isoformat()}'", f"'{end.isoformat()}'", "'nobody'")
    for number, value in enumerate(values, start=1):
        statement = statement.replace(f"${number}", value)
    return statement


async def test_what_is_older_than_its_retention_is_forgotten_in_batches(database: Database) -> None:
    await note(database, 12_000)
    await write(database, "a")
    await publish(database)
    cleaner = PublicationsCleaner(database, retention_days=7, interval_seconds=0)

    left = []
    for _ in range(3):
        await cleaner.run_once()
        async with database.connection() as connection:
            left.append(await connection.fetchval("SELECT count(*) FROM publications"))

    assert left == [7_001, 2_001, 1]
    assert len((await look(database, "a")).publications) == 1
