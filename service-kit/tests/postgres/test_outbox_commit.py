"""The removal of what was published need not survive a crash, and its commit does not wait until it would."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from service_kit.outbox import OutboxEvent
from service_kit.postgres.database import Database
from service_kit.postgres.outbox import PostgresOutbox, add_to_outbox

# By a trigger that fires as the transaction commits.
WATCH = """
CREATE TABLE commits (synchronous text);
CREATE FUNCTION watch_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO commits SELECT current_setting('synchronous_commit');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR DELETE ON outbox
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch_commit();
"""
UNWATCH = "DROP TRIGGER watch ON outbox; DROP FUNCTION watch_commit(); DROP TABLE commits"


@pytest.fixture
async def watched(database: Database) -> AsyncIterator[Database]:
    async with database.connection() as connection:
        await connection.execute(WATCH)
        yield database
        await connection.execute(UNWATCH)


async def test_only_the_relay_commits_without_waiting_for_the_disk(watched: Database) -> None:
    event = OutboxEvent(event_type="order.created", payload=b"{}", traceparent="")

    async with watched.transaction() as connection:
        await add_to_outbox(connection, [event])
    async with PostgresOutbox(watched, random=Random(1)).claim(10) as claim:
        await claim.settle(published=[row.id for row in claim.rows], rejected={})
    async with watched.transaction() as connection:
        await add_to_outbox(connection, [event])

    async with watched.connection() as connection:
        seen = await connection.fetch("SELECT synchronous FROM commits ORDER BY ctid")
    assert [record["synchronous"] for record in seen] == ["on", "off", "on"]
