"""What was decided, by single statements: the two that every batch runs."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

import msgspec

from processor_service.application.ports import Answer, ProcessingState
from processor_service.domain.decision import Decision
from processor_service.domain.order import OrderId
from service_kit import failpoints
from service_kit.lifecycle import Wakeup
from service_kit.observability.trace_context import continued_trace
from service_kit.postgres.database import Database, Record

ORDER_PROCESSED = "order.processed"

Continued = Callable[[str | None, Random], str]
"""From the traceparent of an order to that of its answer."""

FIND = """
SELECT order_id, version, fail_reason, attempt_count, last_error
FROM processing_states
WHERE order_id = ANY ($1::text[])
"""

# One statement, so one round trip and one commit for a whole batch. A key that is there already is skipped,
# its state and its answer with it; one that a concurrent transaction is inserting is waited for. The guard of
# versions stands here and not in Python alone: it looks at the state as it is when its row is locked, which
# may be newer than the snapshot. Both inserts are sorted, and all keys come before the first state, so that
# concurrent batches wait for each other instead of deadlocking.
#
# Each IN is part of a larger condition so that it is no join: joins that hash are off in our sessions, and a
# nested loop compares every order with every other. As it is, PostgreSQL reads the whole list into a hash
# table, which also is what makes all keys come first.
#
# Of the answers the first are those of the decisions. unnest gives those that follow no order id.
RECORD = f"""
WITH decided AS (
    SELECT *
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::text[],
                $8::int[], $9::text[], $10::text[], $11::bytea[], $12::float8[])
        AS decided (event_key, order_id, version, status, fail_reason, attempt_count, last_error, rule, sku,
                    ruleset_version, event, received_seconds_before)
), accepted AS (
    INSERT INTO processed_inbox (event_key)
    SELECT event_key FROM decided ORDER BY event_key COLLATE "C"
    ON CONFLICT (event_key) DO NOTHING
    RETURNING event_key
), saved AS (
    INSERT INTO processing_states AS stored
        (order_id, version, status, fail_reason, attempt_count, last_error, rule, sku, ruleset_version,
         event, received_at, decided_by)
    SELECT order_id, version, status, fail_reason, attempt_count, last_error, rule, sku, ruleset_version,
           event, now() - received_seconds_before * interval '1 s', $13::text
    FROM decided
    WHERE (event_key IN (SELECT event_key FROM accepted)) IS TRUE
    ORDER BY order_id COLLATE "C"
    ON CONFLICT (order_id) DO UPDATE
    SET version = excluded.version, status = excluded.status, fail_reason = excluded.fail_reason,
        attempt_count = excluded.attempt_count, last_error = excluded.last_error, decided_at = now(),
        rule = excluded.rule, sku = excluded.sku, ruleset_version = excluded.ruleset_version,
        event = excluded.event, received_at = excluded.received_at, decided_by = excluded.decided_by
    WHERE stored.version < excluded.version
    RETURNING order_id
), answered AS (
    INSERT INTO outbox (event_type, payload, traceparent)
    SELECT '{ORDER_PROCESSED}', payload::jsonb, traceparent
    FROM unnest($2::text[], $14::text[], $15::text[]) AS answer (order_id, payload, traceparent)
    WHERE order_id IS NULL OR order_id IN (SELECT order_id FROM saved)
)
SELECT order_id FROM saved
"""


class PostgresDecidedOrders:
    """Implements DecidedOrders; `wakeup` tells the relay of this process, `instance`, of answers."""

    def __init__(
        self,
        database: Database,
        wakeup: Wakeup,
        random: Random,
        *,
        instance: str | None = None,
        continued: Continued = continued_trace,
    ) -> None:
        self._database = database
        self._wakeup = wakeup
        self._random = random
        self._instance = instance
        self._continued = continued

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, ProcessingState]:
        async with self._database.connection() as connection:
            records = await connection.fetch(FIND, list(order_ids))
        return {record["order_id"]: _to_state(record) for record in records}

    async def record(self, decided: Mapping[str, Answer], repeated: Sequence[Answer]) -> set[OrderId]:
        states = [answer.state for answer in decided.values()]
        decisions = [state.decision for state in states]
        answers = [*decided.values(), *repeated]
        payloads = [order_processed(answer.state).decode() for answer in answers]
        traceparents = [self._continued(answer.traceparent, self._random) for answer in answers]
        failpoints.passed("decided_orders.unrecorded")
        async with self._database.connection() as connection:
            now = asyncio.get_running_loop().time()
            saved = await connection.fetch(
                RECORD,
                list(decided),
                [state.order_id for state in states],
                [state.version for state in states],
                ["failed" if decision.failed else "done" for decision in decisions],
                [decision.fail_reason for decision in decisions],
                [state.attempt_count for state in states],
                [state.last_error for state in states],
                [decision.rule for decision in decisions],
                [decision.sku for decision in decisions],
                [decision.ruleset_version for decision in decisions],
                [state.event for state in states],
                # Handed over as an age, so that all times of an order are by the database's clock.
                [None if state.received_at is None else now - state.received_at for state in states],
                self._instance,
                payloads,
                traceparents,
            )
        failpoints.passed("decided_orders.recorded")
        if saved or repeated:
            self._wakeup.notify()
        return {record["order_id"] for record in saved}


def order_processed(state: ProcessingState) -> bytes:
    """The body of the event: `version` is the one that the order has after the decision."""
    return msgspec.json.encode(
        {
            "order_id": state.order_id,
            "status": "failed" if state.decision.failed else "success",
            "fail_reason": state.decision.fail_reason,
            "version": state.version + 1,
        }
    )


def _to_state(record: Record) -> ProcessingState:
    return ProcessingState(
        order_id=record["order_id"],
        version=record["version"],
        decision=Decision(record["fail_reason"]),
        attempt_count=record["attempt_count"],
        last_error=record["last_error"],
    )
