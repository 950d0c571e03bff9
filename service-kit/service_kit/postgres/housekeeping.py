"""What has to be looked at and cleaned up in the background."""

from collections.abc import Callable
from random import Random
from typing import ClassVar

import structlog

from service_kit.lifecycle import BackgroundService
from service_kit.observability.metrics import Metrics
from service_kit.postgres.database import Database
from service_kit.postgres.dead_letters import COUNT_LETTERS
from service_kit.postgres.outbox import PostgresOutbox

log = structlog.stdlib.get_logger()

# A bounded batch, so that no cleaning holds locks or a snapshot for long.
CLEANED_ROWS = 5_000

FORGET = f"""
DELETE FROM processed_inbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM processed_inbox WHERE processed_at < now() - $1 * interval '1 day'
    LIMIT {CLEANED_ROWS} FOR UPDATE SKIP LOCKED
))
"""


FORGET_PUBLICATIONS = f"""
DELETE FROM publications WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM publications WHERE published_at < now() - $1 * interval '1 day'
    LIMIT {CLEANED_ROWS} FOR UPDATE SKIP LOCKED
))
"""


class Cleaner(BackgroundService):
    """Forgets what is older than `retention_days`: `statement`, of which they are $1, deletes it.

    It deletes or returns a row for each, CLEANED_ROWS at most; if there were as many, it is repeated at once.
    """

    statement: ClassVar[str]

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
            status = await connection.execute(self.statement, self._retention_days)
        if status.rpartition(" ")[2] != str(CLEANED_ROWS):
            await self.pause(self._interval_seconds)


class InboxCleaner(Cleaner):
    """Forgets inbox keys. Afterwards a duplicate is still harmless: the version guards refuse it."""

    name: ClassVar[str] = "inbox_cleaner"
    statement = FORGET


class PublicationsCleaner(Cleaner):
    """Forgets when events were published, and by whom."""

    name: ClassVar[str] = "publications_cleaner"
    statement = FORGET_PUBLICATIONS


DEAD_ROWS = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'outbox'::regclass"

# Nobody waits for it, and it waits for nobody: shrinking the file, which takes a lock, is left to autovacuum.
VACUUM = "VACUUM (SKIP_LOCKED, TRUNCATE off) outbox"
_VACUUM_SECONDS_MAX = 3600.0
_NOT_VACUUMED = "an old transaction or a replication slot holds them, or the role does not own the table"


class OutboxVacuum(BackgroundService):
    """Makes room in the outbox for new rows as soon as `dead_rows_max` of the old ones are gone.

    Autovacuum looks at a database once a minute by default: at 3,000 events a second it would find 180,000
    dead rows, and a table that grew by a hundred megabytes meanwhile. The role needs to own the table. Rows
    that could not be removed, since an old transaction may still see them, are not tried again by themselves.
    """

    name: ClassVar[str] = "outbox_vacuum"

    def __init__(
        self,
        database: Database,
        *,
        dead_rows_max: int = 10_000,
        interval_seconds: float = 5.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._dead_rows_max = dead_rows_max
        self._interval_seconds = interval_seconds
        self._not_removed = 0

    async def run_once(self) -> None:
        async with self._database.connection() as connection:
            dead: int = await connection.fetchval(DEAD_ROWS) or 0
            self._not_removed = min(self._not_removed, dead)
            if dead > self._not_removed + self._dead_rows_max:
                await self.until_stopped(connection.execute(VACUUM, timeout=_VACUUM_SECONDS_MAX))
                self._not_removed = await connection.fetchval(DEAD_ROWS) or 0
                if self._not_removed > self._dead_rows_max:
                    log.warning("outbox_not_vacuumed", dead_rows=self._not_removed, hint=_NOT_VACUUMED)
        await self.pause(self._interval_seconds)


COUNT = f"SELECT ({COUNT_LETTERS}) AS dead, (SELECT count(*) FROM retry_queue) AS retries"


class BacklogWatch(BackgroundService):
    """Measures every few seconds what waits: outbox, queue (`queued`), retries, dead letters."""

    name: ClassVar[str] = "backlog_watch"

    def __init__(
        self,
        database: Database,
        outbox: PostgresOutbox,
        *,
        metrics: Metrics,
        queued: Callable[[], int | None],
        interval_seconds: float = 5.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._queued = queued
        self._interval_seconds = interval_seconds

    async def run_once(self) -> None:
        if (queued := self._queued()) is not None:
            self._metrics.queue_messages.set(queued)
        self._metrics.observe_backlog(await self._outbox.backlog())
        async with self._database.connection() as connection:
            record = await connection.fetchrow(COUNT)
        if record:
            self._metrics.dead_letters.set(record["dead"])
            self._metrics.retries_pending.set(record["retries"])
        await self.pause(self._interval_seconds)
