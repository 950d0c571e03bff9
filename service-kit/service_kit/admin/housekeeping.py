"""What the admin tables need from time to time."""

from random import Random
from typing import ClassVar

from service_kit.lifecycle import BackgroundService
from service_kit.postgres.database import Database

# One row of many: what is summed stays the same at every moment. Several may do so at once.
UNFOLDED = "SELECT count(*) - count(DISTINCT group_id) FROM dead_letter_groups"

FOLD = """
WITH folded AS (
    DELETE FROM dead_letter_groups WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM dead_letter_groups LIMIT 100000 FOR UPDATE SKIP LOCKED
    ))
    RETURNING group_id, letters
)
INSERT INTO dead_letter_groups (group_id, letters)
SELECT group_id, sum(letters) FROM folded GROUP BY group_id HAVING sum(letters) <> 0
"""

# Which letters a replay took is told for a while; that there was one, for ever.
FORGET_ITEMS = """
DELETE FROM replay_items WHERE ctid = ANY (ARRAY(
    SELECT item.ctid FROM replays JOIN replay_items AS item ON item.replay_id = replays.id
    WHERE replays.finished_at < now() - $1 * interval '1 day' AND item.state NOT IN ('waiting', 'in_flight')
    LIMIT 5000 FOR UPDATE OF item SKIP LOCKED
))
"""

_UNFOLDED_MAX = 500


class AdminHousekeeping(BackgroundService):
    """Folds the counts of dead letters, and forgets what a replay took `retention_days` after its end."""

    name: ClassVar[str] = "admin_housekeeping"

    def __init__(
        self,
        database: Database,
        *,
        retention_days: float = 30.0,
        interval_seconds: float = 5.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._retention_days = retention_days
        self._interval_seconds = interval_seconds

    async def run_once(self) -> None:
        async with self._database.connection() as connection:
            if await connection.fetchval(UNFOLDED) > _UNFOLDED_MAX:
                await connection.execute(FOLD)
            await connection.execute(FORGET_ITEMS, self._retention_days)
        await self.pause(self._interval_seconds)
