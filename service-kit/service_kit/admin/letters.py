"""Dead letters as operators look at them, newest first, and how they are discarded."""

from base64 import b64encode
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from service_kit.admin.selection import LetterFilter, Selection, conditions, selected_ids
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Database, Record
from service_kit.postgres.dead_letters import COUNT_LETTERS

log = structlog.stdlib.get_logger()

REASON_LENGTH_MAX = 1_000
"""Of a reason in a list; the letter itself has it whole."""

_COLUMNS = f"""id, source, original_event_type AS event_type, event_key, subject,
    left(failure_reason, {REASON_LENGTH_MAX}) AS reason, group_id AS "group", attempts, times_seen,
    moved_to_dlq_at AS moved_at, last_seen_at, octet_length(body) AS size,
    (SELECT replay_id FROM replay_items
     WHERE dead_letter_id = letter.id AND replay_items.state IN ('waiting', 'in_flight')) AS replay_id"""

GET = f"""
SELECT {_COLUMNS}, failure_reason, first_failed_at, message_id, headers::text AS headers, body
FROM dead_letter_queue AS letter WHERE id = $1
"""

# The count is the sum of all that was added; the newest and the oldest letter are looked up in the index.
GROUPS = """
SELECT counted.group_id AS "group", newest.event_type, newest.reason, counted.letters AS count,
       oldest.first_at, newest.last_at, newest.example_id
FROM (
    SELECT group_id, sum(letters)::bigint AS letters FROM dead_letter_groups
    GROUP BY group_id HAVING sum(letters) > 0 ORDER BY sum(letters) DESC, group_id LIMIT $1
) AS counted
CROSS JOIN LATERAL (
    SELECT id AS example_id, original_event_type AS event_type, dead_letter_reason(failure_reason) AS reason,
           greatest(moved_to_dlq_at, last_seen_at) AS last_at
    FROM dead_letter_queue WHERE group_id = counted.group_id ORDER BY id DESC LIMIT 1
) AS newest
CROSS JOIN LATERAL (
    SELECT moved_to_dlq_at AS first_at
    FROM dead_letter_queue WHERE group_id = counted.group_id ORDER BY id LIMIT 1
) AS oldest
ORDER BY counted.letters DESC, counted.group_id
"""

# A span of time within a group is taken for a handful of letters. They may be very many: read them in the
# order of the index, until a page is full, and do not collect and sort them all.
IN_ORDER = "SET LOCAL enable_bitmapscan = off"

DISCARD = "DELETE FROM dead_letter_queue WHERE id = ANY ($1::bigint[]) RETURNING event_key"
_KEYS_KEPT = 100


async def list_letters(
    database: Database, wanted: LetterFilter, *, before: int, limit: int
) -> Sequence[Mapping[str, object]]:
    """Up to `limit` letters that fit, with smaller ids than `before`, newest first."""
    sql, arguments = list_statement(wanted, before=before, limit=limit)
    async with database.transaction() as connection:
        await connection.execute(IN_ORDER)
        return [dict(record) for record in await connection.fetch(sql, *arguments)]


def list_statement(wanted: LetterFilter, *, before: int, limit: int) -> tuple[str, Sequence[object]]:
    """SQL that reads about as many rows as it returns, whatever is asked for, and its arguments."""
    arguments: list[object] = [before]
    fits = conditions(wanted, arguments=arguments)
    # The limit in the text: of a parameter the planner assumes much, and sorts all instead of reading a few.
    sql = f"""SELECT {_COLUMNS} FROM dead_letter_queue AS letter
        WHERE id < $1 AND {fits} ORDER BY id DESC LIMIT {limit:d}"""
    return sql, arguments


async def find_letter(database: Database, letter_id: int) -> Mapping[str, object] | None:
    """One letter with its bytes, both as Base64 and, if they are UTF-8, as text."""
    async with database.connection() as connection:
        record = await connection.fetchrow(GET, letter_id)
    return None if record is None else _with_body(record)


async def letter_groups(database: Database, *, limit: int) -> Mapping[str, object]:
    """The largest groups; `total` counts all letters, whatever their group."""
    async with database.transaction() as connection:
        groups = await connection.fetch(GROUPS, limit + 1)
        total = await connection.fetchval(COUNT_LETTERS)
    shown = [dict(group) for group in groups[:limit]]
    return {"groups": shown, "total": total, "has_more": len(groups) > limit}


async def discard_letters(database: Database, selection: Selection, cause: Cause) -> int:
    """Delete what is selected, and remember who did it; return how many there were."""
    async with database.transaction() as connection:
        ids = await selected_ids(connection, selection)
        keys = [record["event_key"] for record in await connection.fetch(DISCARD, ids)]
        if keys:
            details = {
                "discarded": len(keys),
                "selection": selection,
                "event_keys": sorted(keys)[:_KEYS_KEPT],
            }
            await write_audit(connection, cause, "dead_letters.discard", "dead letters", details)
    log.warning("dead_letters_discarded", letters=len(keys), operator=cause.operator, reason=cause.reason)
    return len(keys)


def _with_body(record: Record) -> Mapping[str, object]:
    letter = dict(record)
    body: bytes = letter.pop("body")
    letter["reason"] = letter.pop("failure_reason")
    letter["headers"] = msgspec.Raw(letter["headers"].encode())
    return letter | {"body": _text(body), "body_base64": b64encode(body).decode()}


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
