"""PostgreSQL keeps the promises that the fakes keep (`tests/core/test_fake_stores.py`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from structlog.testing import capture_logs

from service_kit.failures import FailedEvent, Postponed
from service_kit.outbox import OutboxEvent
from service_kit.postgres.database import Database
from service_kit.postgres.dead_letters import PostgresDeadLetters
from service_kit.postgres.failures import PostgresFailures
from service_kit.postgres.outbox import PostgresOutbox, add_to_outbox
from service_kit.testing.dead_letters_conformance import DeadLettersConformance
from service_kit.testing.failures_conformance import FailuresConformance
from service_kit.testing.inbox import Inbox, PostgresInbox
from service_kit.testing.inbox_conformance import InboxConformance
from service_kit.testing.outbox_conformance import OutboxConformance
from service_kit.testing.stores_conformance import RETRY_POLICY, failed_event

# The database's clock cannot be moved, but all that it has written can.
AGE = """
WITH age AS (SELECT $1 * interval '1 s' AS seconds),
aged_outbox AS (UPDATE outbox SET created_at = created_at - seconds, due_at = due_at - seconds FROM age),
aged_retries AS (
    UPDATE retry_queue SET first_failed_at = first_failed_at - seconds, due_at = due_at - seconds FROM age
)
UPDATE dead_letter_queue SET moved_to_dlq_at = moved_to_dlq_at - seconds FROM age
"""

SINCE_FIRST_FAILURE = (
    "SELECT extract(epoch FROM now() - first_failed_at)::float8 FROM retry_queue WHERE event_key = $1"
)


class PostgresStores:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.outbox = PostgresOutbox(database, random=Random(0), retry_policy=RETRY_POLICY)
        self.failures = PostgresFailures(database)
        self.dead_letters = PostgresDeadLetters(database)

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        async with self._database.transaction() as connection:
            yield PostgresInbox(connection)

    async def add_to_outbox(self, *events: OutboxEvent) -> None:
        async with self._database.transaction() as connection:
            await add_to_outbox(connection, events)

    async def pass_time(self, seconds: float) -> None:
        async with self._database.connection() as connection:
            await connection.execute(AGE, seconds)

    async def seconds_since_first_failure(self, event_key: str) -> float:
        async with self._database.connection() as connection:
            seconds: float = await connection.fetchval(SINCE_FIRST_FAILURE, event_key)
        return seconds


@pytest.fixture
async def stores(database: Database) -> PostgresStores:
    return PostgresStores(database)


class TestPostgresOutbox(OutboxConformance):
    pass


class TestPostgresInbox(InboxConformance):
    pass


class TestPostgresFailures(FailuresConformance):
    @pytest.mark.parametrize(
        "headers", ["7", "null", "[1]", '"a"', '{"limit": 1e400}', "[" * 5_000 + "]" * 5_000]
    )
    async def test_a_row_written_by_hand_may_have_any_headers(
        self, stores: PostgresStores, database: Database, headers: str
    ) -> None:
        await stores.failures.set_aside([Postponed(event=failed_event(), delay_seconds=0)], [])
        async with database.connection() as connection:
            await connection.execute("UPDATE retry_queue SET headers = $1::text::jsonb", headers)

        [delivery] = await stores.failures.lease_due(10, lease_seconds=60)

        assert isinstance(delivery.headers, dict) and len(delivery.headers) == 1
        failed = FailedEvent.malformed(delivery, delivery.body, "still no event")
        await stores.failures.set_aside([], [failed], ended=[delivery.tag])
        [letter] = await stores.dead_letters.list(limit=10)
        assert len(letter.headers) == 1


class TestPostgresDeadLetters(DeadLettersConformance):
    async def test_a_discarded_letter_leaves_a_line_with_order_and_trace(
        self, stores: PostgresStores, database: Database
    ) -> None:
        headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        await stores.failures.set_aside([], [failed_event(headers=headers)])
        letters = PostgresDeadLetters(database, subject_field="order_id")
        [letter] = await letters.list(limit=10)

        with capture_logs() as lines:
            await letters.discard([letter.id], reason="a test order")

        [line] = lines
        assert (line["event"], line["order_id"]) == ("dead_letter_discarded", "o1")
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
