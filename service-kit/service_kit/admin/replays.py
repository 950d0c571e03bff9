"""Replays as operators see and steer them: frozen sets of dead letters on their way back to the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from service_kit.admin.forecasts import Forecasts
from service_kit.admin.selection import Selection, selected_ids
from service_kit.http.problems import Problem
from service_kit.lifecycle import Wakeup
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Connection, Database, Record

COLUMNS = """id, state, total, handled, skipped, failed, in_flight,
    total - handled - skipped - failed AS remaining, step, per_second, failure_share_max, operator, reason,
    created_at, progress_at, finished_at, stopped_because, forecast::text AS forecast"""

CREATE = """
INSERT INTO replays (operator, reason, per_second, failure_share_max, forecast, total)
VALUES ($1, $2, $3, $4, $5::jsonb, 0)
RETURNING id
"""

# Letters that another active replay has are left to it; of two that are created at once the second waits for
# the first. Sorted, so that they wait for each other instead of deadlocking.
FREEZE = """
INSERT INTO replay_items (replay_id, dead_letter_id)
SELECT $1, id FROM dead_letter_queue WHERE id = ANY ($2::bigint[]) ORDER BY id
ON CONFLICT (dead_letter_id) WHERE state IN ('waiting', 'in_flight') DO NOTHING
"""

COUNT_PRESENT = "SELECT count(*) FROM dead_letter_queue WHERE id = ANY ($1::bigint[])"

COUNT_FROZEN = """
UPDATE replays SET total = (SELECT count(*) FROM replay_items WHERE replay_id = $1)
WHERE id = $1 RETURNING total
"""

GET = f"SELECT {COLUMNS} FROM replays WHERE id = $1"

LIST = f"SELECT {COLUMNS} FROM replays WHERE id < $1 ORDER BY id DESC LIMIT $2"

LOCK = "SELECT state FROM replays WHERE id = $1 FOR UPDATE"

PAUSE = f"UPDATE replays SET state = 'paused' WHERE id = $1 RETURNING {COLUMNS}"

# A replay that had stopped begins again with one letter: what stopped it may not be mended.
RESUME = f"""
UPDATE replays
SET due_at = now(), progress_at = now(), stopped_because = NULL,
    step = CASE state WHEN 'stopped' THEN step + 1 ELSE step END,
    step_size = CASE state WHEN 'stopped' THEN 1 ELSE step_size END,
    step_taken = CASE state WHEN 'stopped' THEN 0 ELSE step_taken END,
    step_ended = CASE state WHEN 'stopped' THEN 0 ELSE step_ended END,
    step_failed = CASE state WHEN 'stopped' THEN 0 ELSE step_failed END,
    state = 'running'
WHERE id = $1 RETURNING {COLUMNS}
"""

CANCEL = f"UPDATE replays SET state = 'cancelled', finished_at = now() WHERE id = $1 RETURNING {COLUMNS}"

RELEASE = "UPDATE replay_items SET state = 'released' WHERE replay_id = $1 AND state = 'waiting'"

_STEERED: Mapping[str, tuple[str, Sequence[str]]] = {
    "pause": (PAUSE, ("running",)),
    "resume": (RESUME, ("paused", "stopped")),
    "cancel": (CANCEL, ("running", "paused", "stopped")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReplay:
    """`per_second`: most letters handed over in a second. `failure_share_max`: what of a step may fail."""

    selection: Selection
    cause: Cause
    per_second: float
    failure_share_max: float


class Replays:
    """`wakeup` tells the runner of this process that there is something to do."""

    def __init__(self, database: Database, forecasts: Forecasts, wakeup: Wakeup) -> None:
        self._database = database
        self._forecasts = forecasts
        self._wakeup = wakeup

    async def create(self, new: NewReplay) -> Mapping[str, object]:
        """Freeze what is selected, with its forecast, and begin.

        Letters that are not there, or that another active replay has, are left out and counted in the answer.
        Raises Problem when nothing is left.
        """
        async with self._database.connection() as connection:
            ids = await selected_ids(connection, new.selection)
        forecast = await self._forecasts.summary(ids)
        async with self._database.transaction() as connection:
            created = await _create(connection, new, ids, forecast)
        self._wakeup.notify()
        return created

    async def get(self, replay_id: int) -> Mapping[str, object] | None:
        async with self._database.connection() as connection:
            record = await connection.fetchrow(GET, replay_id)
        return None if record is None else _shown(record)

    async def list(self, *, before: int, limit: int) -> Sequence[Mapping[str, object]]:
        async with self._database.connection() as connection:
            return [_shown(record) for record in await connection.fetch(LIST, before, limit)]

    async def steer(self, replay_id: int, how: str, cause: Cause) -> Mapping[str, object]:
        """`how` is pause, resume or cancel. What was handed over before runs on, and is still counted.

        Raises Problem 404, and 409 when its state does not allow it.
        """
        statement, allowed = _STEERED[how]
        async with self._database.transaction() as connection:
            state = await connection.fetchval(LOCK, replay_id)
            if state is None:
                raise no_such_replay(replay_id)
            if state not in allowed:
                raise Problem(
                    409, "ReplayStateConflict", f"The replay {replay_id} is {state}: it cannot {how}."
                )
            record = await connection.fetchrow(statement, replay_id)
            if how == "cancel":
                await connection.execute(RELEASE, replay_id)
            await write_audit(connection, cause, f"replay.{how}", f"replay {replay_id}", {"was": state})
        assert record
        self._wakeup.notify()
        return _shown(record)


def no_such_replay(replay_id: object) -> Problem:
    return Problem(404, "ReplayNotFound", f"There is no replay {replay_id}.")


async def _create(
    connection: Connection, new: NewReplay, ids: Sequence[int], forecast: Mapping[str, object]
) -> Mapping[str, object]:
    cause, counts = new.cause, msgspec.json.encode(forecast).decode()
    replay_id = await connection.fetchval(
        CREATE, cause.operator, cause.reason, new.per_second, new.failure_share_max, counts
    )
    await connection.execute(FREEZE, replay_id, ids)
    total: int = await connection.fetchval(COUNT_FROZEN, replay_id)
    present: int = await connection.fetchval(COUNT_PRESENT, ids)
    if not total:
        raise _nothing_to_replay(present)
    left_out = {"not_found": max(0, len(ids) - present), "in_other_replays": max(0, present - total)}
    details = {"total": total, **left_out, "selection": new.selection, "forecast": forecast}
    await write_audit(connection, cause, "replay.start", f"replay {replay_id}", details)
    record = await connection.fetchrow(GET, replay_id)
    assert record
    return _shown(record) | left_out


def _nothing_to_replay(present: int) -> Problem:
    if present:
        detail = "Every dead letter that is selected is in another active replay."
        return Problem(409, "ReplayedAlready", detail)
    return Problem(404, "DeadLetterNotFound", "None of the dead letters that are selected is there.")


def _shown(record: Record) -> dict[str, object]:
    return {**record, "forecast": msgspec.Raw(record["forecast"].encode())}
