"""Forgets old deliveries of webhooks."""

import asyncio
from random import Random
from typing import ClassVar

from service_kit.lifecycle import BackgroundService
from service_kit.postgres.database import Database

_ROWS = 5_000

# What ended, and what waits for an endpoint that is disabled. From the oldest on, a bounded batch at a time:
# behind deliveries that are still to be tried it goes on once these have ended, three days later at most.
FORGET = f"""
WITH oldest AS (
    SELECT id, endpoint_id, status, created_at FROM webhook_deliveries ORDER BY id LIMIT {_ROWS}
), gone AS (
    DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(
        SELECT oldest.id FROM oldest JOIN webhook_endpoints AS endpoint ON endpoint.id = endpoint_id
        WHERE oldest.created_at < now() - $1 * interval '1 day'
          AND (status <> 'pending' OR NOT endpoint.enabled)
    )) RETURNING id
)
SELECT count(*) FROM gone
"""


class WebhookCleaner(BackgroundService):
    """Forgets deliveries that were written more than `retention_days` ago and will not be tried any more."""

    name: ClassVar[str] = "webhook_cleaner"

    def __init__(
        self,
        database: Database,
        *,
        retention_days: float,
        interval_seconds: float = 60.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._retention_days = retention_days
        self._interval_seconds = interval_seconds

    async def run_once(self) -> None:
        async with self._database.connection() as connection:
            forgotten = await connection.fetchval(FORGET, self._retention_days)
        await (asyncio.sleep(0) if forgotten == _ROWS else self.pause(self._interval_seconds))
