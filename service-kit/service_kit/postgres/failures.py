"""Retries and dead letters in PostgreSQL. Due times are by the database's clock alone."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec

from service_kit.failures import FailedEvent, Postponed, storable
from service_kit.message import Delivery
from service_kit.postgres.database import Connection, Database

END = "DELETE FROM retry_queue WHERE id = ANY ($1::bigint[]) RETURNING event_key, first_failed_at"

# An event that waits already keeps its due time: a duplicate delivery brings nothing forward.
POSTPONE = """
INSERT INTO retry_queue
    (event_key, event_type, body, message_id, headers, attempts, last_error, subject, first_failed_at, due_at)
SELECT event_key, event_type, body, message_id, headers::jsonb, attempts, last_error, subject,
       coalesce(first_failed_at, now()), now() + delay_seconds * interval '1 s'
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[],
            $9::timestamptz[], $10::float8[])
    AS failed (event_key, event_type, body, message_id, headers, attempts, last_error, subject,
               first_failed_at, delay_seconds)
ORDER BY event_key
ON CONFLICT (event_key) DO NOTHING
"""

BURY = """
INSERT INTO dead_letter_queue AS letter
    (source, event_key, original_event_type, body, message_id, headers, attempts, failure_reason, subject,
     first_failed_at, payload)
VALUES ('consumer', $1, $2, $3, $4, $5::jsonb, $6, $7, $8, coalesce($9, now()), $10::jsonb)
ON CONFLICT (event_key) DO UPDATE
SET times_seen = letter.times_seen + 1, last_seen_at = now(), failure_reason = excluded.failure_reason
"""

POSTPONED = "SELECT event_key FROM retry_queue WHERE event_key = ANY ($1::text[])"

# The lease is the due time itself: if we die, the retry comes due again when the lease ends.
LEASE = """
UPDATE retry_queue SET due_at = now() + $2 * interval '1 s'
WHERE id = ANY (ARRAY(
    SELECT id FROM retry_queue WHERE due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
))
RETURNING id, event_type, body, message_id, headers::text AS headers, attempts, last_error
"""


SUBJECT_LENGTH_MAX = 255

_any_json = msgspec.json.Decoder(float_hook=str)


class PostgresFailures:
    """Implements FailureStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_aside(
        self, postponed: Sequence[Postponed], dead: Sequence[FailedEvent], *, ended: Collection[int] = ()
    ) -> None:
        async with self._database.transaction() as connection:
            first_failed_at: dict[str, datetime] = {}
            if ended:
                records = await connection.fetch(END, list(ended))
                first_failed_at = {record["event_key"]: record["first_failed_at"] for record in records}
            if postponed:
                await _postpone(connection, postponed, first_failed_at)
            for failed in sorted(dead, key=lambda failed: failed.event_key):
                await _bury(connection, failed, first_failed_at.get(failed.event_key))

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        async with self._database.connection() as connection:
            return {record["event_key"] for record in await connection.fetch(POSTPONED, list(event_keys))}

    async def lease_due(self, limit: int, *, lease_seconds: float) -> Sequence[Delivery]:
        async with self._database.connection() as connection:
            records = await connection.fetch(LEASE, limit, lease_seconds)
        return [
            Delivery(
                tag=record["id"],
                routing_key=record["event_type"],
                body=record["body"],
                message_id=record["message_id"],
                headers=_headers(record["headers"]),
                redelivered=True,
                attempt=record["attempts"] + 1,
                last_error=record["last_error"],
            )
            for record in records
        ]


async def _postpone(
    connection: Connection, postponed: Sequence[Postponed], first_failed_at: Mapping[str, datetime]
) -> None:
    events = [item.event for item in postponed]
    await connection.execute(
        POSTPONE,
        [event.event_key for event in events],
        [storable(event.event_type) for event in events],
        [event.body for event in events],
        [_storable_id(event.message_id) for event in events],
        [_json_headers(event.headers) for event in events],
        [event.attempt for event in events],
        [storable(event.reason) for event in events],
        [_storable_subject(event.subject) for event in events],
        [first_failed_at.get(event.event_key) for event in events],
        [item.delay_seconds for item in postponed],
    )


async def _bury(connection: Connection, failed: FailedEvent, first_failed_at: datetime | None) -> None:
    values = (
        failed.event_key,
        storable(failed.event_type),
        failed.body,
        _storable_id(failed.message_id),
        _json_headers(failed.headers),
        failed.attempt,
        storable(failed.reason),
        _storable_subject(failed.subject),
        first_failed_at,
    )
    try:
        async with connection.transaction():
            await connection.execute(BURY, *values, _json_text(failed.body))
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] not in {"22", "54"}:
            raise
        # JSON that jsonb cannot hold, such as a NUL character or a number of a million digits: bytes only.
        await connection.execute(BURY, *values, None)


def _json_text(body: bytes) -> str | None:
    """The body if it is JSON, else None."""
    try:
        _any_json.decode(body)
        return body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _headers(text: str) -> Mapping[str, object]:
    """What is no object in a row that was written by hand is kept under a name, and costs nobody an event."""
    try:
        headers: object = _any_json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        headers = text
    return headers if isinstance(headers, dict) else {"headers": headers}


def _json_headers(headers: Mapping[str, object]) -> str:
    """Headers as JSON text; what has no form in JSON or in jsonb is written as its repr."""
    return msgspec.json.encode(_jsonable(headers)).decode()


def _jsonable(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(key)): _jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case _:
            return storable(repr(value))


def _storable_subject(subject: str | None) -> str | None:
    """None also for what no index takes: of a malformed event anything can be the subject."""
    stored = None if subject is None else storable(subject)
    return stored if stored is not None and len(stored) <= SUBJECT_LENGTH_MAX else None


def _storable_id(message_id: str | None) -> str | None:
    return None if message_id is None else storable(message_id)
