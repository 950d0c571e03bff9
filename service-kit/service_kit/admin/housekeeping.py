"""What the admin tables need from time to time."""

from random import Random
from typing import ClassVar

from service_kit.lifecycle import BackgroundService
from service_kit.postgres.database import Database
from service_kit.postgres.housekeeping import CLEANED_ROWS, Cleaner

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

_UNFOLDED_MAX = 500


class LetterCountsFolder(BackgroundService):
    """Folds the counts of dead letters, once they are more than 500 rows too many."""

    name: ClassVar[str] = "letter_counts_folder"

    def __init__(
        self, database: Database, *, interval_seconds: float = 5.0, random: Random | None = None
    ) -> None:
        super().__init__(random)
        self._database = database
        self._interval_seconds = interval_seconds

    async def run_once(self) -> None:
        async with self._database.connection() as connection:
            if await connection.fetchval(UNFOLDED) > _UNFOLDED_MAX:
                await connection.execute(FOLD)
        await self.pause(self._interval_seconds)


# Which letters a replay took is told for a while; that there was one, for ever.
FORGET_ITEMS = f"""
DELETE FROM replay_items WHERE ctid = ANY (ARRAY(
    SELECT item.ctid FROM replays JOIN replay_items AS item ON item.replay_id = replays.id
    WHERE replays.finished_at < now() - $1 * interval '1 day' AND item.state NOT IN ('waiting', 'in_flight')
    LIMIT {CLEANED_ROWS} FOR UPDATE OF item SKIP LOCKED
))
"""


class ReplayItemsCleaner(Cleaner):
    """Forgets which letters a replay took, `retention_days` after its end."""

    name: ClassVar[str] = "replay_items_cleaner"
    statement = FORGET_ITEMS
