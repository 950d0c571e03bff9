"""What an operator does with the dead letters in PostgreSQL."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from getpass import getuser

import asyncpg
import msgspec
import structlog

from service_kit.failures import DEATH_HEADERS, DeadLetter, storable
from service_kit.observability.subjects import about, subject_in
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Connection, Database
from service_kit.settings import Settings

log = structlog.stdlib.get_logger()

_KEYS_KEPT = 100

_COLUMNS = """id, original_event_type, event_key, failure_reason, attempts, times_seen, body, message_id,
              headers::text AS headers, moved_to_dlq_at"""

LIST = f"SELECT {_COLUMNS} FROM dead_letter_queue WHERE id > $1 ORDER BY id LIMIT $2"

GET = f"SELECT {_COLUMNS} FROM dead_letter_queue WHERE id = $1"

_DEATH_HEADERS = f"ARRAY[{', '.join(repr(name) for name in DEATH_HEADERS)}]"

# A letter leaves the dead letters in the very statement that hands it back to the service, so that two
# operators who replay it at once hand it back once. Says of each, by its key, where it waits now.
REPLAY = f"""
WITH letter AS (
    DELETE FROM dead_letter_queue WHERE id = ANY ($1::bigint[])
    RETURNING *
), to_consumer AS (
    INSERT INTO retry_queue
        (event_key, event_type, body, message_id, headers, attempts, last_error, subject, due_at)
    SELECT event_key, original_event_type, body, message_id, headers - {_DEATH_HEADERS}, 0, failure_reason,
           subject, now()
    FROM letter WHERE source = 'consumer'
    ON CONFLICT (event_key) DO UPDATE SET due_at = excluded.due_at, attempts = excluded.attempts
    RETURNING id, event_key
), to_outbox AS (
    INSERT INTO outbox (event_type, payload, message_id, traceparent)
    SELECT original_event_type, payload, message_id::uuid, headers ->> 'traceparent'
    FROM letter WHERE source = 'outbox'
    RETURNING id, message_id
)
SELECT event_key, id AS retry_id, NULL::bigint AS outbox_id FROM to_consumer
UNION ALL
SELECT 'outbox:' || message_id, NULL, id FROM to_outbox
"""

# Exact, and no look at the letters: triggers keep the sums.
COUNT_LETTERS = "SELECT coalesce(sum(letters), 0)::bigint FROM dead_letter_groups"

DISCARD = f"DELETE FROM dead_letter_queue WHERE id = ANY ($1::bigint[]) RETURNING {_COLUMNS}"


class PostgresDeadLetters:
    """Implements DeadLetters. A replayed event runs as a retry with its attempts forgotten.

    What an `operator` changes is written to the audit log with the change.
    """

    def __init__(
        self, database: Database, *, subject_field: str = "subject", operator: str | None = None
    ) -> None:
        self._database = database
        self._subject_field = subject_field
        self._operator = operator

    async def list(self, *, limit: int, after_id: int = 0) -> Sequence[DeadLetter]:
        async with self._database.connection() as connection:
            return [_dead_letter(record) for record in await connection.fetch(LIST, after_id, limit)]

    async def get(self, dead_letter_id: int) -> DeadLetter | None:
        async with self._database.connection() as connection:
            record = await connection.fetchrow(GET, dead_letter_id)
        return _dead_letter(record) if record else None

    async def replay(self, ids: Collection[int]) -> int:
        async with self._database.transaction() as connection:
            keys = [record["event_key"] for record in await connection.fetch(REPLAY, [*ids])]
            await self._audit(connection, "dead_letters.replay", keys, "none given")
        return len(keys)

    async def discard(self, ids: Collection[int], *, reason: str) -> int:
        async with self._database.transaction() as connection:
            records = await connection.fetch(DISCARD, [*ids])
            keys = [record["event_key"] for record in records]
            await self._audit(connection, "dead_letters.discard", keys, reason)
        for letter in map(_dead_letter, records):
            fields = about(
                self._subject_field,
                subject_in(letter.body, self._subject_field),
                letter.headers.get("traceparent"),
                event_key=letter.event_key,
            )
            log.warning("dead_letter_discarded", **fields, dead_letter_id=letter.id, reason=reason)
        return len(records)

    async def _audit(self, connection: Connection, action: str, keys: Sequence[str], reason: str) -> None:
        if self._operator and keys:
            cause = Cause(operator=self._operator, reason=storable(reason))
            details = {"letters": len(keys), "event_keys": sorted(keys)[:_KEYS_KEPT]}
            await write_audit(connection, cause, action, "dead letters", details)


@asynccontextmanager
async def dead_letters_of(
    settings: Settings, *, subject_field: str = "subject"
) -> AsyncIterator[PostgresDeadLetters]:
    """The dead letters of the service with these settings, for a command.

    `subject_field` is what events and log lines call the subject.
    """
    name = f"{settings.service_name} dead-letters"
    async with Database(settings.db_dsn, application_name=name, connections_max=1) as database:
        yield PostgresDeadLetters(database, subject_field=subject_field, operator=_who_runs_this())


def _who_runs_this() -> str:
    try:
        return f"{getuser()}, by command"
    except (ImportError, KeyError, OSError):  # the user of a container may have no name
        return "somebody, by command"


def _dead_letter(record: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        id=record["id"],
        event_type=record["original_event_type"],
        event_key=record["event_key"],
        reason=record["failure_reason"],
        attempts=record["attempts"],
        times_seen=record["times_seen"],
        body=record["body"],
        message_id=record["message_id"],
        headers=msgspec.json.decode(record["headers"]),
        moved_to_dlq_at=record["moved_to_dlq_at"],
    )
