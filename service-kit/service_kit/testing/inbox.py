"""The inbox by a statement of its own. Services write theirs in the statement of the effect.

What transactions do with keys is easiest to see here, on PostgreSQL and on its models.
"""

from collections.abc import Collection
from typing import Protocol

from service_kit.postgres.database import Connection


class Inbox(Protocol):
    async def accept(self, keys: Collection[str]) -> set[str]:
        """Store `keys` with the running transaction; return those that were not there before."""
        ...


# Sorted, so that two batches with common keys wait for each other instead of deadlocking.
ACCEPT = """
INSERT INTO processed_inbox (event_key)
SELECT event_key FROM unnest($1::text[]) AS event (event_key) ORDER BY event_key
ON CONFLICT (event_key) DO NOTHING
RETURNING event_key
"""


class PostgresInbox:
    """Implements Inbox on a running transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def accept(self, keys: Collection[str]) -> set[str]:
        return {record["event_key"] for record in await self._connection.fetch(ACCEPT, list(keys))}
