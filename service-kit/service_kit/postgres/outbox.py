"""The outbox in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

from service_kit.failures import storable
from service_kit.outbox import OutboxBacklog, OutboxClaim, OutboxEvent, OutboxRow
from service_kit.postgres.database import Connection, Database
from service_kit.retry import RetryPolicy

ADD = """
INSERT INTO outbox (event_type, payload, traceparent)
SELECT event_type, payload::jsonb, traceparent
FROM unnest($1::text[], $2::text[], $3::text[]) AS event (event_type, payload, traceparent)
"""

# Rows that another relay holds are skipped, not waited for. By state, never by `id > last seen`: rows become
# visible in the order of their commits, not of their ids.
CLAIM = """
SELECT id, event_type, payload::text AS payload, message_id, traceparent, attempts,
       extract(epoch FROM clock_timestamp() - created_at)::float8 AS waited_seconds
FROM outbox
WHERE due_at <= now() AND ($2::text IS NULL OR event_type = $2) AND event_type <> ALL ($3::text[])
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED
"""

# What was published leaves the outbox and is noted by the same statement, in one row for each event type: who
# asks where an order is finds it there. Times are handed over as distances from the beginning of the claim:
# so they are by this database's clock, as all others that it holds. The commit waits neither for the disk nor
# for a standby: after a crash that loses it the events are there again, and are published once more.
REMOVE = """
WITH relaxed AS (
    SELECT set_config('synchronous_commit', 'off', true)
), removed AS (
    DELETE FROM outbox WHERE id = ANY ($1::bigint[]) RETURNING event_type, payload ->> $2::text AS subject
)
INSERT INTO publications (event_type, relay, published_at, confirmed_at, subjects)
SELECT event_type, $3::text, now() + $4::float8 * interval '1 s', now() + $5::float8 * interval '1 s',
       array_remove(array_agg(subject), NULL)
FROM removed, relaxed GROUP BY event_type
"""

POSTPONE = """
UPDATE outbox
SET attempts = outbox.attempts + 1, last_error = failed.reason,
    due_at = now() + failed.delay_seconds * interval '1 s'
FROM unnest($1::bigint[], $2::text[], $3::float8[]) AS failed (id, reason, delay_seconds)
WHERE outbox.id = failed.id
"""

# Payload and headers are as the message would have had them, so that a replay publishes the same.
BURY = """
WITH dead AS (
    DELETE FROM outbox USING unnest($1::bigint[], $2::text[]) AS failed (id, reason)
    WHERE outbox.id = failed.id
    RETURNING outbox.*, failed.reason
)
INSERT INTO dead_letter_queue
    (source, event_key, original_event_type, payload, body, message_id, headers, failure_reason, attempts,
     subject)
SELECT 'outbox', 'outbox:' || message_id, event_type, payload, convert_to(payload::text, 'UTF8'),
       message_id::text, jsonb_strip_nulls(jsonb_build_object('traceparent', traceparent)),
       reason, attempts + 1, CASE WHEN length(payload ->> $3::text) <= 255 THEN payload ->> $3::text END
FROM dead
"""

BACKLOG = """
SELECT count(*) AS pending, (SELECT created_at FROM outbox ORDER BY id LIMIT 1) AS oldest_created_at
FROM outbox
"""


LAG = "SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1"


class PostgresOutbox:
    """Implements OutboxStore: a claim is a transaction that holds its rows locked.

    `instance` is the process that publishes, `subject_field` what events call what they are about.
    """

    def __init__(
        self,
        database: Database,
        *,
        random: Random,
        retry_policy: RetryPolicy = RetryPolicy(),
        instance: str = "",
        subject_field: str = "subject",
    ) -> None:
        self._database = database
        self.random = random
        self.retry_policy = retry_policy
        self.instance = instance
        self.subject_field = subject_field

    def claim(
        self, limit: int, *, only: str | None = None, excluding: Collection[str] = ()
    ) -> AbstractAsyncContextManager[OutboxClaim]:
        return self._claim(limit, only, excluding)

    @asynccontextmanager
    async def _claim(
        self, limit: int, only: str | None, excluding: Collection[str]
    ) -> AsyncIterator[OutboxClaim]:
        async with self._database.transaction() as connection:
            begun_at = asyncio.get_running_loop().time()
            records = await connection.fetch(CLAIM, limit, only, list(excluding))
            rows = [
                OutboxRow(
                    id=record["id"],
                    event_type=record["event_type"],
                    payload=record["payload"].encode(),
                    message_id=str(record["message_id"]),
                    traceparent=record["traceparent"],
                    attempts=record["attempts"],
                    waited_seconds=record["waited_seconds"],
                )
                for record in records
            ]
            yield _Claim(self, connection, rows, begun_at)

    async def backlog(self) -> OutboxBacklog:
        """Counts all rows: for a look every few seconds, not for a hot path."""
        async with self._database.connection() as connection:
            record = await connection.fetchrow(BACKLOG)
        assert record is not None
        return OutboxBacklog(pending=record["pending"], oldest_created_at=record["oldest_created_at"])

    async def lag_seconds(self) -> float:
        """For how long the oldest event has been waiting; 0 when none waits."""
        async with self._database.connection() as connection:
            lag: float | None = await connection.fetchval(LAG)
        return lag or 0.0


async def add_to_outbox(connection: Connection, events: Sequence[OutboxEvent]) -> None:
    """Write `events` with the running transaction, in their order."""
    await connection.execute(
        ADD,
        [event.event_type for event in events],
        [event.payload.decode() for event in events],
        [event.traceparent for event in events],
    )


class _Claim:
    def __init__(
        self, outbox: PostgresOutbox, connection: Connection, rows: Sequence[OutboxRow], begun_at: float
    ) -> None:
        self.rows = rows
        self._outbox = outbox
        self._connection = connection
        self._begun_at = begun_at

    async def settle(
        self, *, published: Collection[int], rejected: Mapping[int, str], publish_seconds: float = 0.0
    ) -> int:
        if published:
            confirmed = asyncio.get_running_loop().time() - self._begun_at
            names = (self._outbox.subject_field, self._outbox.instance)
            sent = confirmed - publish_seconds
            await self._connection.execute(REMOVE, list(published), *names, sent, confirmed)
        return await self._reject(rejected) if rejected else 0

    async def _reject(self, rejected: Mapping[int, str]) -> int:
        retry_policy, random = self._outbox.retry_policy, self._outbox.random
        attempts = {row.id: row.attempts + 1 for row in self.rows}
        delays = {id: retry_policy.delay_seconds(attempts[id], random) for id in rejected}
        again = {id: delay for id, delay in delays.items() if delay is not None}
        dead = [id for id in rejected if id not in again]
        reasons = {id: storable(reason) for id, reason in rejected.items()}
        await self._connection.execute(
            POSTPONE, list(again), [reasons[id] for id in again], list(again.values())
        )
        await self._connection.execute(BURY, dead, [reasons[id] for id in dead], self._outbox.subject_field)
        return len(dead)
