"""Forgets old entries of the log of orders' changes."""

import asyncio
from random import Random
from typing import ClassVar

from service_kit.lifecycle import BackgroundService
from service_kit.postgres.database import Database

_ROWS = 5_000

# Only what every reader has had a chance to read, from the oldest on, a bounded batch at a time.
FORGET = f"""
WITH old AS (
    SELECT position FROM (
        SELECT position, at FROM order_log
        WHERE position > (SELECT forgotten FROM order_log_head)
          AND position <= (SELECT position FROM order_log_head)
        ORDER BY position LIMIT {_ROWS}
    ) AS oldest WHERE at < now() - $1 * interval '1 day'
), gone AS (
    DELETE FROM order_log WHERE position = ANY (ARRAY(SELECT position FROM old)) RETURNING position
), noted AS (
    UPDATE order_log_head SET forgotten = greatest(forgotten, (SELECT max(position) FROM gone))
    WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone
"""


class OrderLogCleaner(BackgroundService):
    """Forgets changes older than `retention_days`; who resumes a stream before them is told so."""

    name: ClassVar[str] = "order_log_cleaner"

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
