"""What an operator does with the dead letters in PostgreSQL."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import structlog

from service_kit.failures import DeadLetter
from service_kit.observability.subjects import about, subject_in
from service_kit.postgres.database import Database
from service_kit.settings import Settings

log = structlog.stdlib.get_logger()

_COLUMNS = """id, original_event_type, event_key, failure_reason, attempts, times_seen, body, message_id,
              headers::text AS headers, moved_to_dlq_at"""

LIST = f"SELECT {_COLUMNS} FROM dead_letter_queue WHERE id > $1 ORDER BY id LIMIT $2"

GET = f"SELECT {_COLUMNS} FROM dead_letter_queue WHERE id = $1"

# A letter leaves the dead letters in the very statement that hands it back to the service, so that two
# operators who replay it at once hand it back once.
REPLAY = """
WITH letter AS (
    DELETE FROM dead_letter_queue WHERE id = ANY ($1::bigint[])
    RETURNING *
), to_consumer AS (
    INSERT INTO retry_queue
        (event_key, event_type, body, message_id, headers, attempts, last_error, subject, due_at)
    SELECT event_key, original_event_type, body, message_id, headers, 0, failure_reason, subject, now()
    FROM letter WHERE source = 'consumer'
    ON CONFLICT (event_key) DO UPDATE SET due_at = excluded.due_at, attempts = excluded.attempts
), to_outbox AS (
    INSERT INTO outbox (event_type, payload, message_id, traceparent)
    SELECT original_event_type, payload, message_id::uuid, headers ->> 'traceparent'
    FROM letter WHERE source = 'outbox'
)
SELECT count(*) FROM letter
"""

DISCARD = f"DELETE FROM dead_letter_queue WHERE id = ANY ($1::bigint[]) RETURNING {_COLUMNS}"


class PostgresDeadLetters:
    """Implements DeadLetters. A replayed event runs as a retry with its attempts forgotten."""

    def __init__(self, database: Database, *, subject_field: str = "subject") -> None:
        self._database = database
        self._subject_field = subject_field

    async def list(self, *, limit: int, after_id: int = 0) -> Sequence[DeadLetter]:
        async with self._database.connection() as connection:
            return [_dead_letter(record) for record in await connection.fetch(LIST, after_id, limit)]

    async def get(self, dead_letter_id: int) -> DeadLetter | None:
        async with self._database.connection() as connection:
            record = await connection.fetchrow(GET, dead_letter_id)
        return _dead_letter(record) if record else None

    async def replay(self, ids: Collection[int]) -> int:
        async with self._database.connection() as connection:
            count: int = await connection.fetchval(REPLAY, [*ids])
        return count

    async def discard(self, ids: Collection[int], *, reason: str) -> int:
        async with self._database.connection() as connection:
            records = await connection.fetch(DISCARD, [*ids])
        for letter in map(_dead_letter, records):
            fields = about(
                self._subject_field,
                subject_in(letter.body, self._subject_field),
                letter.headers.get("traceparent"),
                event_key=letter.event_key,
            )
            log.warning("dead_letter_discarded", **fields, dead_letter_id=letter.id, reason=reason)
        return len(records)


@asynccontextmanager
async def dead_letters_of(
    settings: Settings, *, subject_field: str = "subject"
) -> AsyncIterator[PostgresDeadLetters]:
    """The dead letters of the service with these settings, for a command.

    `subject_field` is what events and log lines call the subject.
    """
    name = f"{settings.service_name} dead-letters"
    async with Database(settings.db_dsn, application_name=name, connections_max=1) as database:
        yield PostgresDeadLetters(database, subject_field=subject_field)


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
