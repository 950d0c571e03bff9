"""A transaction over states, inbox and outbox."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

import msgspec

from processor_service.application.ports import Answer, ProcessingState
from processor_service.domain.decision import Decision
from processor_service.domain.order import OrderId
from service_kit.lifecycle import Wakeup
from service_kit.observability.trace_context import continued_trace
from service_kit.outbox import OutboxEvent
from service_kit.postgres.database import Connection, Database, Record
from service_kit.postgres.inbox import PostgresInbox
from service_kit.postgres.outbox import add_to_outbox
from service_kit.postgres.unit_of_work import PostgresUnitOfWork

ORDER_PROCESSED = "order.processed"

Continued = Callable[[str | None, Random], str]
"""From the traceparent of an order to that of its answer."""

FIND = """
SELECT order_id, version, fail_reason, attempt_count, last_error
FROM processing_states
WHERE order_id = ANY ($1::text[])
"""

# The guard stands here and not in Python alone: a state is replaced by a newer version only. Sorted, so that
# concurrent batches wait for each other instead of deadlocking.
SAVE = """
INSERT INTO processing_states AS stored
    (order_id, version, status, fail_reason, attempt_count, last_error, rule, sku, ruleset_version, event,
     received_at, decided_by)
SELECT order_id, version, status, fail_reason, attempt_count, last_error, rule, sku, ruleset_version, event,
       now() - received_seconds_before * interval '1 s', $12::text
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::text[], $7::int[], $8::text[],
            $9::text[], $10::bytea[], $11::float8[])
    AS decided (order_id, version, status, fail_reason, attempt_count, last_error, rule, sku,
                ruleset_version, event, received_seconds_before)
ORDER BY order_id COLLATE "C"
ON CONFLICT (order_id) DO UPDATE
SET version = excluded.version, status = excluded.status, fail_reason = excluded.fail_reason,
    attempt_count = excluded.attempt_count, last_error = excluded.last_error, decided_at = now(),
    rule = excluded.rule, sku = excluded.sku, ruleset_version = excluded.ruleset_version,
    event = excluded.event, received_at = excluded.received_at, decided_by = excluded.decided_by
WHERE stored.version < excluded.version
RETURNING order_id
"""


class PostgresDecidedOrders:
    """Implements DecidedOrders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, ProcessingState]:
        async with self._database.connection() as connection:
            records = await connection.fetch(FIND, list(order_ids))
        return {record["order_id"]: _to_state(record) for record in records}


class ProcessingUnitOfWork(PostgresUnitOfWork):
    """Implements UnitOfWork; `wakeup` tells the relay of this process, `instance`, of commits with events."""

    inbox: PostgresInbox
    states: "PostgresStates"
    outbox: "PostgresAnswerOutbox"

    def __init__(
        self,
        database: Database,
        wakeup: Wakeup,
        random: Random,
        *,
        instance: str | None = None,
        continued: Continued = continued_trace,
    ) -> None:
        super().__init__(database)
        self._wakeup = wakeup
        self._random = random
        self._instance = instance
        self._continued = continued

    def begin(self, connection: Connection) -> None:
        self.inbox = PostgresInbox(connection)
        self.states = PostgresStates(connection, self._instance)
        self.outbox = PostgresAnswerOutbox(connection, lambda trace: self._continued(trace, self._random))

    async def commit(self) -> None:
        await super().commit()
        if self.outbox.written:
            self._wakeup.notify()


class PostgresStates:
    """Implements States on a transaction that has just begun."""

    def __init__(self, connection: Connection, instance: str | None) -> None:
        self._connection = connection
        self._instance = instance
        self._begun_at = asyncio.get_running_loop().time()

    async def save(self, states: Collection[ProcessingState]) -> set[OrderId]:
        if not states:
            return set()
        records = await self._connection.fetch(
            SAVE,
            [state.order_id for state in states],
            [state.version for state in states],
            ["failed" if state.decision.failed else "done" for state in states],
            [state.decision.fail_reason for state in states],
            [state.attempt_count for state in states],
            [state.last_error for state in states],
            [state.decision.rule for state in states],
            [state.decision.sku for state in states],
            [state.decision.ruleset_version for state in states],
            [state.event for state in states],
            [self._seconds_before(state.received_at) for state in states],
            self._instance,
        )
        return {record["order_id"] for record in records}

    def _seconds_before(self, received_at: float | None) -> float | None:
        """From then to the beginning of this transaction, which is when the database says it was decided."""
        return None if received_at is None else self._begun_at - received_at


class PostgresAnswerOutbox:
    """Implements Outbox on a running transaction."""

    def __init__(self, connection: Connection, continued: Callable[[str | None], str]) -> None:
        self._connection = connection
        self._continued = continued
        self.written = False

    async def add(self, answers: Sequence[Answer]) -> None:
        if answers:
            await add_to_outbox(self._connection, [self._event(answer) for answer in answers])
            self.written = True

    def _event(self, answer: Answer) -> OutboxEvent:
        return OutboxEvent(
            event_type=ORDER_PROCESSED,
            payload=order_processed(answer.state),
            traceparent=self._continued(answer.traceparent),
        )


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
