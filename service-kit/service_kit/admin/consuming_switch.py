"""The switch of consuming: one row, which every instance of the service watches."""

from collections.abc import Mapping
from random import Random
from typing import ClassVar

import structlog

from service_kit.consuming import Consuming
from service_kit.lifecycle import BackgroundService
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Database

READ = "SELECT paused, operator AS by, reason, since FROM consuming"

# Nothing when it is so already: who asked first stays named.
SET = """
UPDATE consuming SET paused = $1, operator = $2, reason = $3, since = now() WHERE paused <> $1
RETURNING paused
"""

UNKNOWN: Mapping[str, object] = {"paused": None, "by": None, "reason": None, "since": None}

log = structlog.stdlib.get_logger()


class ConsumingSwitch:
    """Pauses and resumes all instances; `seen` is what this one saw last."""

    def __init__(self, database: Database, consuming: Consuming) -> None:
        self._database = database
        self._consuming = consuming
        self.seen: Mapping[str, object] = UNKNOWN

    async def set(self, *, paused: bool, cause: Cause) -> Mapping[str, object]:
        """For all instances, from their next look on; for this one at once."""
        async with self._database.transaction() as connection:
            if await connection.fetchrow(SET, paused, cause.operator, cause.reason):
                action = "consuming.pause" if paused else "consuming.resume"
                await write_audit(connection, cause, action, "consuming", {})
        return await self.look()

    def why(self) -> str | None:
        """Why nothing is consumed, as it was last seen, or None."""
        if not self.seen["paused"]:
            return None
        return f"{self.seen['by']} has paused consuming: {self.seen['reason']}"

    async def look(self) -> Mapping[str, object]:
        """Read the switch, and do in this process what it says."""
        async with self._database.connection() as connection:
            record = await connection.fetchrow(READ)
        assert record, "the table of the switch has one row"
        before, self.seen = self.seen, dict(record)
        if record["paused"]:
            self._consuming.pause()
        else:
            self._consuming.resume()
        if bool(before["paused"]) != record["paused"]:
            event = "consuming_paused" if record["paused"] else "consuming_resumed"
            log.warning(event, operator=record["by"], reason=record["reason"])
        return self.seen


class ConsumingWatch(BackgroundService):
    """Looks at the switch every `interval_seconds`; during an outage things stay as they are."""

    name: ClassVar[str] = "consuming_watch"

    def __init__(
        self,
        switch: ConsumingSwitch,
        *,
        interval_seconds: float = 0.5,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._switch = switch
        self._interval_seconds = interval_seconds

    async def run_once(self) -> None:
        await self._switch.look()
        await self.pause(self._interval_seconds)
