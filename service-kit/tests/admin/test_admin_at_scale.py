"""With very many dead letters: a statement reads about as many rows as it returns, says PostgreSQL."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service_kit.admin import letters
from service_kit.admin.housekeeping import FOLD, UNFOLDED, LetterCountsFolder
from service_kit.admin.letters import list_statement
from service_kit.admin.selection import LetterFilter
from service_kit.admin.state import BACKLOG
from service_kit.postgres.database import Database
from service_kit.postgres.housekeeping import COUNT

from .conftest import bury

LETTERS = 20_000
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

# One in a thousand comes from the outbox; ten kinds of reasons; ten seconds between two.
FILL = """
INSERT INTO dead_letter_queue
    (source, event_key, original_event_type, body, failure_reason, attempts, subject, moved_to_dlq_at)
SELECT CASE WHEN n % 1000 = 0 THEN 'outbox' ELSE 'consumer' END, 'event:' || n,
    CASE WHEN n % 1000 = 0 THEN 'ours' ELSE 'theirs' END, '{}', 'kind ' || chr(96 + n % 10), 1, 'o' || n,
    $2::timestamptz + n * interval '10 s'
FROM generate_series(1, $1::int) AS n
"""

DELETE_ONE = """
DELETE FROM dead_letter_queue WHERE id = (SELECT id FROM dead_letter_queue LIMIT 1 OFFSET $1)
"""

COMMON = "bec078bc3bfc4c00"  # every tenth letter: theirs, of kind a
MIDDLE = BEGINNING + timedelta(seconds=5 * LETTERS)
END = MIDDLE + timedelta(days=365)
FILTERS = {
    "all": LetterFilter(),
    "common type": LetterFilter(event_type="theirs"),
    "rare type": LetterFilter(event_type="ours"),
    "no such type": LetterFilter(event_type="x"),
    "rare source": LetterFilter(source="outbox"),
    "common source": LetterFilter(source="consumer"),
    "source without such a type": LetterFilter(source="outbox", event_type="theirs"),
    "subject": LetterFilter(subject="o7"),
    "no such subject": LetterFilter(subject="nobody"),
    "no such group": LetterFilter(group="0" * 16),
    "common group": LetterFilter(group=COMMON),
    "common group and type": LetterFilter(group=COMMON, event_type="theirs"),
    "group without such a type": LetterFilter(group=COMMON, event_type="ours"),
    "common group and source": LetterFilter(group=COMMON, source="consumer"),
    "subject and all that is common": LetterFilter(
        subject="o11", group=COMMON, event_type="theirs", source="consumer"
    ),
    "subject and type": LetterFilter(subject="o7", event_type="theirs", source="consumer"),
    "until": LetterFilter(until=MIDDLE),
    "since": LetterFilter(since=MIDDLE),
    "span": LetterFilter(since=MIDDLE, until=MIDDLE + timedelta(hours=1)),
    "long ago": LetterFilter(until=BEGINNING),
    "rare and old": LetterFilter(source="outbox", until=MIDDLE),
    "a long span of a common group": LetterFilter(group=COMMON, since=MIDDLE, until=END),
    "a long span of a common type": LetterFilter(event_type="theirs", since=MIDDLE, until=END),
    "common and old": LetterFilter(group=COMMON, event_type="theirs", source="consumer", until=MIDDLE),
}


@pytest.fixture
async def many(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute(FILL, LETTERS, BEGINNING)
    await connection.execute("ANALYZE dead_letter_queue")
    return connection


async def rows_read(database: Database, sql: str, *arguments: object, mode: str = "auto") -> int:
    """How many rows all scans together looked at."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(letters.IN_ORDER)
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in _nodes(json.loads(text)[0]["Plan"])
        if "Relation Name" in node
    )


def _nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_page_is_found_without_reading_the_others(
    many: asyncpg.Connection, database: Database, name: str, mode: str
) -> None:
    """With either plan that a prepared statement may get."""
    sql, arguments = list_statement(FILTERS[name], before=2**63 - 1, limit=11)

    assert await rows_read(database, sql, *arguments, mode=mode) <= 300


async def test_groups_are_found_without_reading_the_letters(
    many: asyncpg.Connection, database: Database
) -> None:
    async with database.connection() as connection:
        groups = await connection.fetch(letters.GROUPS, 100)

    assert sum(group["count"] for group in groups) == LETTERS
    assert await rows_read(database, letters.GROUPS.replace("$1", "100")) <= 5 * len(groups)


@pytest.mark.parametrize("sql", [COUNT, BACKLOG])
async def test_letters_are_counted_without_reading_them(
    many: asyncpg.Connection, database: Database, sql: str
) -> None:
    async with database.connection() as connection:
        counts = await connection.fetchrow(sql)

    assert counts and LETTERS in dict(counts).values()
    assert await rows_read(database, sql) <= 100


async def test_folding_the_counts_changes_no_count(many: asyncpg.Connection, database: Database) -> None:
    for number in range(600):
        await bury(many, f"more:{number}", reason=f"kind {'ab'[number % 2]}")
    await many.execute("DELETE FROM dead_letter_queue WHERE failure_reason = 'kind c'")
    before = await counted(many)
    assert await many.fetchval(UNFOLDED) > 500

    folder = LetterCountsFolder(database)
    running = asyncio.ensure_future(folder.run_once())
    folder.stop()
    await running

    assert await many.fetchval(UNFOLDED) == 0
    assert await counted(many) == before
    assert await many.fetchval("SELECT count(*) FROM dead_letter_groups WHERE letters = 0") == 0


async def test_folding_at_once_with_others_and_with_changes_is_exact(
    many: asyncpg.Connection, database: Database
) -> None:
    async def fold() -> None:
        for _ in range(20):
            async with database.connection() as connection:
                await connection.execute(FOLD)

    async def change() -> None:
        async with database.connection() as connection:
            for number in range(20):
                await connection.execute(DELETE_ONE, number)

    await asyncio.gather(fold(), fold(), change())

    assert await counted(many) == {
        row["group_id"]: row["count"]
        for row in await many.fetch("SELECT group_id, count(*) FROM dead_letter_queue GROUP BY group_id")
    }


async def counted(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT group_id, sum(letters) AS letters FROM dead_letter_groups"
        " GROUP BY group_id HAVING sum(letters) <> 0"
    )
    return {row["group_id"]: int(row["letters"]) for row in rows}
