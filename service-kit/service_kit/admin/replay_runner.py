"""The runner brings replays forward, whichever instance it runs in, and however often it is interrupted."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, assert_never

import structlog

from service_kit import failpoints
from service_kit.admin.forecasts import Forecasts, LetterForecast
from service_kit.admin.replay_progress import Finish, HandOver, Move, Progress, Stop, Wait, next_move
from service_kit.forecast import Forecast
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.postgres.database import Connection, Database
from service_kit.postgres.dead_letters import REPLAY

SECONDS_TO_NEXT = (
    "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM replays WHERE due_at IS NOT NULL"
)

# The lease is the due time itself, as with retries. Whoever holds an older turn writes nothing any more.
TAKE_DUE = """
UPDATE replays SET due_at = now() + $1 * interval '1 s', turn = turn + 1
WHERE id = (
    SELECT id FROM replays WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, turn
"""

LOCK = """
SELECT state, total, handled, skipped, failed, in_flight, step, step_size, step_taken, step_ended,
       step_failed, per_second, failure_share_max,
       extract(epoch FROM now() - progress_at)::float8 AS idle_seconds
FROM replays WHERE id = $1 AND turn = $2 FOR UPDATE
"""

# Where each letter is now, as of one moment. Its first attempt is to come while its row waits as it was
# handed over. It has failed if it was set aside again since then, or waits for another attempt: in a new row,
# or in one that waited under its event's own key before, and then keeps its place. Such an older row says
# nothing of an event whose key is in the inbox.
SETTLE = """
WITH found AS (
    SELECT dead_letter_id, CASE
        WHEN EXISTS (SELECT FROM retry_queue WHERE id = item.retry_id)
            OR EXISTS (SELECT FROM outbox WHERE id = item.outbox_id AND attempts = 0)
        THEN 'in_flight'
        WHEN EXISTS (SELECT FROM outbox WHERE id = item.outbox_id)
            OR EXISTS (
                SELECT FROM retry_queue AS retry WHERE event_key = ANY (item.event_keys) AND (
                    id > item.retry_id
                    OR NOT EXISTS (SELECT FROM processed_inbox WHERE event_key = retry.event_key)))
            OR EXISTS (
                SELECT FROM dead_letter_queue
                WHERE event_key = ANY (item.event_keys) AND last_seen_at >= item.handed_at)
        THEN 'failed'
        WHEN item.done_before THEN 'skipped'
        ELSE 'handled' END AS state
    FROM replay_items AS item WHERE replay_id = $1 AND state = 'in_flight'
)
UPDATE replay_items AS item SET state = found.state
FROM found
WHERE item.replay_id = $1 AND item.dead_letter_id = found.dead_letter_id AND found.state <> 'in_flight'
RETURNING item.state, item.step
"""

NEXT_LETTERS = """
SELECT dead_letter_id FROM replay_items WHERE replay_id = $1 AND state = 'waiting'
ORDER BY dead_letter_id LIMIT $2
"""

HANDED_OVER = """
UPDATE replay_items
SET state = 'in_flight', step = $3, event_keys = $4, done_before = $5, retry_id = $6, outbox_id = $7,
    handed_at = now()
WHERE replay_id = $1 AND dead_letter_id = $2
"""

GONE = """
UPDATE replay_items SET state = 'skipped', step = $3
WHERE replay_id = $1 AND dead_letter_id = ANY ($2::bigint[])
"""

WRITE = """
UPDATE replays
SET state = $2, handled = $3, skipped = $4, failed = $5, in_flight = $6, step = $7, step_size = $8,
    step_taken = $9, step_ended = $10, step_failed = $11, stopped_because = coalesce($12, stopped_because),
    due_at = now() + $13::float8 * interval '1 s',
    progress_at = now() - $14::float8 * interval '1 s',
    finished_at = CASE WHEN $2 = 'finished' THEN now() ELSE finished_at END
WHERE id = $1
"""

log = structlog.stdlib.get_logger()


class ReplayRunner(BackgroundService):
    """Takes the replay that is due, and does its next move in short transactions.

    Everything that it knows is in the tables: another instance goes on when this one has been silent for
    `lease_seconds`. What it hands over leaves the dead letters in the statement that makes a retry of it, or
    a row of the outbox, so that a crash at any instant neither loses a letter nor hands one over twice.
    `on_handed_over` wakes whoever waits for retries and for rows of the outbox.
    """

    name: ClassVar[str] = "replay_runner"

    def __init__(
        self,
        database: Database,
        forecasts: Forecasts,
        *,
        wakeup: Wakeup,
        on_handed_over: Sequence[Wakeup] = (),
        poll_seconds: float = 1.0,
        lease_seconds: float = 30.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._database = database
        self._forecasts = forecasts
        self._wakeup = wakeup
        self._on_handed_over = on_handed_over
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds

    async def run_once(self) -> None:
        async with self._database.connection() as connection:
            seconds: float | None = await connection.fetchval(SECONDS_TO_NEXT)
            due = None
            if seconds is not None and seconds <= 0:
                due = await connection.fetchrow(TAKE_DUE, self._lease_seconds)
        if due:
            await self._advance(due["id"], due["turn"])
        else:
            pause_seconds = self._poll_seconds if seconds is None else min(self._poll_seconds, seconds)
            await self.until_stopped(self._wakeup.wait(max(0.02, pause_seconds)))

    async def _advance(self, replay_id: int, turn: int) -> None:
        async with self._database.transaction() as connection:
            progress = await _locked(connection, replay_id, turn)
            if progress is None:
                return
            outcomes = await connection.fetch(SETTLE, replay_id)
            progress, move = next_move(progress.after((item["state"], item["step"]) for item in outcomes))
            if isinstance(move, HandOver):
                records = await connection.fetch(NEXT_LETTERS, replay_id, move.count)
                await _write(connection, replay_id, progress, due_in_seconds=self._lease_seconds)
            else:
                await _write_move(connection, replay_id, progress, move)
        if isinstance(move, HandOver):
            letters = [record["dead_letter_id"] for record in records]
            await self._hand_over(replay_id, turn, letters, move.pause_seconds)
        elif isinstance(move, Finish | Stop):
            _tell(replay_id, progress, move)

    async def _hand_over(
        self, replay_id: int, turn: int, letters: Sequence[int], pause_seconds: float
    ) -> None:
        forecasts = await self._forecasts.of(letters)
        async with self._database.transaction() as connection:
            progress = await _locked(connection, replay_id, turn)
            if progress is None:
                return
            if progress.state != "running":  # an operator was quicker
                await _write_move(connection, replay_id, *next_move(progress))
                return
            gone = await _replay(connection, replay_id, progress.step, letters, forecasts)
            progress = progress.handed_over(len(letters)).after([("skipped", progress.step)] * gone)
            await _write(connection, replay_id, progress, due_in_seconds=pause_seconds)
            failpoints.passed("replay.uncommitted")
        failpoints.passed("replay.handed_over")
        for wakeup in self._on_handed_over:
            wakeup.notify()


async def _locked(connection: Connection, replay_id: int, turn: int) -> Progress | None:
    """Where the replay is, locked until the transaction ends; None when another instance has taken over."""
    record = await connection.fetchrow(LOCK, replay_id, turn)
    return None if record is None else Progress(**record)


async def _replay(
    connection: Connection,
    replay_id: int,
    step: int,
    letters: Sequence[int],
    forecasts: Mapping[int, LetterForecast],
) -> int:
    """Hand `letters` over, and note where each went; return how many were not there any more."""
    handed = {record["event_key"]: record for record in await connection.fetch(REPLAY, letters)}
    rows = []
    for letter_id, forecast in forecasts.items():
        if to := handed.get(forecast.event_keys[0]):
            done_before = forecast.forecast is Forecast.ALREADY_PROCESSED
            keys = list(forecast.event_keys)
            rows.append((replay_id, letter_id, step, keys, done_before, to["retry_id"], to["outbox_id"]))
    await connection.executemany(HANDED_OVER, rows)
    gone = [letter_id for letter_id in letters if letter_id not in {row[1] for row in rows}]
    await connection.execute(GONE, replay_id, gone, step)
    return len(gone)


async def _write_move(connection: Connection, replay_id: int, now: Progress, move: Move) -> None:
    match move:
        case Wait(seconds=seconds):
            await _write(connection, replay_id, now, due_in_seconds=seconds)
        case Stop(because=because):
            # The outcome of what is in flight is still waited for.
            due_in_seconds = 0.0 if now.in_flight else None
            await _write(connection, replay_id, now, due_in_seconds=due_in_seconds, because=because)
        case Finish():
            await _write(connection, replay_id, now, due_in_seconds=None)
        case HandOver():
            raise AssertionError("what is handed over is written with it")
        case _:
            assert_never(move)


async def _write(
    connection: Connection,
    replay_id: int,
    now: Progress,
    *,
    due_in_seconds: float | None,
    because: str | None = None,
) -> None:
    """`due_in_seconds` None: nothing is to be done until an operator does something."""
    await connection.execute(
        WRITE,
        replay_id,
        now.state,
        now.handled,
        now.skipped,
        now.failed,
        now.in_flight,
        now.step,
        now.step_size,
        now.step_taken,
        now.step_ended,
        now.step_failed,
        because,
        due_in_seconds,
        now.idle_seconds,
    )


def _tell(replay_id: int, progress: Progress, move: Finish | Stop) -> None:
    counts = {name: getattr(progress, name) for name in ("total", "handled", "skipped", "failed")}
    if isinstance(move, Stop):
        log.warning("replay_stopped", replay_id=replay_id, because=move.because, **counts)
    else:
        log.info("replay_finished", replay_id=replay_id, **counts)
