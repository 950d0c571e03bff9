"""Orders that are pending for long, and what each of them waits for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from order_service.application.ports import Processor, ProcessorHistory, Step
from order_service.domain.order import OrderId
from order_service.infrastructure.events import ORDER_CREATED
from service_kit.postgres.database import Connection, Database, Record

COUNTED_MAX = 1_000_000

PENDING = """
SELECT order_id, created_at, extract(epoch FROM now() - created_at)::float8 AS pending_seconds
FROM orders WHERE status = 'pending' AND created_at <= now() - $1 * interval '1 s'
ORDER BY created_at LIMIT $2
"""

TOTAL = f"""
SELECT count(*) FROM (
    SELECT FROM orders WHERE status = 'pending' AND created_at <= now() - $1 * interval '1 s'
    LIMIT {COUNTED_MAX}
) AS pending
"""

# The oldest orders have the oldest events: those that wait behind so many others need no look.
_LOOKED_AT_MAX = 50_000
WAITING = f"""
SELECT payload ->> 'order_id' AS order_id, created_at, due_at, attempts, last_error
FROM (SELECT * FROM outbox ORDER BY id LIMIT {_LOOKED_AT_MAX}) AS oldest
WHERE event_type = $1 AND payload ->> 'order_id' = ANY ($2::text[])
"""
OLDEST_WAITING = "SELECT created_at FROM outbox ORDER BY id LIMIT 1"

RETRIES = """
SELECT subject AS order_id, event_type, first_failed_at, due_at, last_error
FROM retry_queue WHERE subject = ANY ($1::text[]) ORDER BY id
"""

LETTERS = """
SELECT subject AS order_id, id, original_event_type, moved_to_dlq_at, left(failure_reason, 300) AS reason
FROM dead_letter_queue WHERE subject = ANY ($1::text[]) ORDER BY id
"""

_QUESTIONS_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Hold:
    """Why an order does not go on, in words, and since when."""

    why: str
    since: datetime | None = None


class StuckOrders:
    """Looks at this service first, and asks the processor about orders that are on their way there or back.

    `waits_for`: what an event of a type in the outbox waits for. `paused`: why nothing is consumed, or None.
    """

    def __init__(
        self,
        database: Database,
        processor: Processor,
        *,
        waits_for: Callable[[str], str],
        paused: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._processor = processor
        self._waits_for = waits_for
        self._paused = paused

    async def list(self, *, older_than_seconds: float, limit: int) -> Mapping[str, object]:
        """The oldest `limit` orders that are pending for longer; `total` counts up to a million."""
        async with self._database.transaction() as connection:
            orders = await connection.fetch(PENDING, older_than_seconds, limit)
            total = await connection.fetchval(TOTAL, older_than_seconds)
            holds = await self._here(connection, orders)
        away = [order["order_id"] for order in orders if order["order_id"] not in holds]
        holds |= await self._there(away)
        return {"orders": [_told(order, holds[order["order_id"]]) for order in orders], "total": total}

    async def _here(self, connection: Connection, orders: Sequence[Record]) -> dict[str, Hold]:
        ids = [order["order_id"] for order in orders]
        holds: dict[str, Hold] = {}
        for row in await connection.fetch(WAITING, ORDER_CREATED, ids):
            holds[row["order_id"]] = self._in_outbox(row)
        if oldest := await connection.fetchval(OLDEST_WAITING):
            why = f"its event waits in the outbox, or goes out now: {self._waits_for(ORDER_CREATED)}"
            for order in orders:
                if order["created_at"] >= oldest:
                    holds.setdefault(order["order_id"], Hold(why, order["created_at"]))
        for row in await connection.fetch(RETRIES, ids):
            again_at, reason = _words(row["due_at"]), row["last_error"][:300]
            why = f"{row['event_type']} is tried again at {again_at}, after: {reason}"
            holds[row["order_id"]] = Hold(why, row["first_failed_at"])
        for row in await connection.fetch(LETTERS, ids):
            why = f"{row['original_event_type']} is dead letter {row['id']}: {row['reason']}"
            holds[row["order_id"]] = Hold(why, row["moved_to_dlq_at"])
        return holds

    def _in_outbox(self, row: Record) -> Hold:
        because = self._waits_for(ORDER_CREATED)
        if row["attempts"]:
            because = f"another attempt at {_words(row['due_at'])}, after: {row['last_error'][:300]}"
        return Hold(f"its event waits in the outbox: {because}", row["created_at"])

    async def _there(self, order_ids: Sequence[str]) -> dict[str, Hold]:
        """Of orders whose event was published. When the processor does not tell, it is asked no more."""
        holds: dict[str, Hold] = {}
        unknown: str | None = None
        for start in range(0, len(order_ids), _QUESTIONS_AT_ONCE):
            some = order_ids[start : start + _QUESTIONS_AT_ONCE]
            if unknown is None:
                histories = await asyncio.gather(*(self._processor.history(OrderId(id)) for id in some))
                holds |= {id: self._away(history) for id, history in zip(some, histories, strict=True)}
                unknown = next((history.problems[0] for history in histories if history.problems), None)
            else:
                holds |= dict.fromkeys(some, self._away(ProcessorHistory(problems=[unknown])))
        return holds

    def _away(self, history: ProcessorHistory) -> Hold:
        steps = {step.step: step for step in history.steps}
        for name in ("dead_letter", "retry", "waiting"):
            if step := steps.get(name):
                return Hold(_standing(step), step.at)
        answer = steps.get("answered")
        if answer or "decided" in steps:
            paused = self._paused()
            why = "it is decided; the answer " + (f"waits: {paused}" if paused else "is on its way")
            return Hold(why, (answer or steps["decided"]).at)
        if history.problems:
            return Hold(f"published, not answered yet; {history.problems[0]}")
        return Hold(
            "published, and not received by processor-service yet: it waits in its queue, or was lost"
        )


def _standing(step: Step) -> str:
    detail, event = step.detail, f"{step.detail.get('event_type')} in {step.service}"
    match step.step:
        case "dead_letter":
            return f"{event} is dead letter {detail.get('id')}: {detail.get('reason')}"
        case "retry":
            return f"{event} is tried again at {detail.get('due_at')}, after: {detail.get('reason')}"
        case _:
            return f"{event} waits in the outbox: {detail.get('waits_for')}"


def _told(order: Record, hold: Hold) -> Mapping[str, object]:
    return {
        "order_id": order["order_id"],
        "pending_seconds": round(order["pending_seconds"], 1),
        "why": hold.why,
        "since": hold.since or order["created_at"],
    }


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
