"""The statements of processor-service."""

from collections.abc import Generator, Sequence
from itertools import zip_longest
from typing import Any

import asyncpg

from processor_service.infrastructure import decided_orders
from simulation.database.kit_statements import inbox_accept, write_event
from simulation.database.statements import Tables, Waiting, Work, models

_COLUMNS = (
    "order_id",
    "version",
    "status",
    "fail_reason",
    "attempt_count",
    "last_error",
    "rule",
    "sku",
    "ruleset_version",
    "event",
)


@models(decided_orders.FIND, "bb18f040")
def states_find(work: Work, tables: Tables, ids: Sequence[str]) -> Waiting:
    rows = (tables.processing_states.rows.get(id) for id in sorted(set(ids)))
    return [values for row in rows if row and (values := work.visible(row))]
    yield


@models(decided_orders.RECORD, "14a57fac")
def decisions_record(work: Work, tables: Tables, keys: Sequence[str], *arguments: Any) -> Waiting:
    *columns, ages, instance, payloads, traceparents = arguments
    accepted = {record["event_key"] for record in (yield from inbox_accept(work, tables, keys))}
    states = [
        (*decided, age) for key, *decided, age in zip(keys, *columns, ages, strict=True) if key in accepted
    ]
    saved = yield from _save(work, tables, states, instance)
    order_ids = columns[0]
    for order_id, payload, traceparent in zip_longest(order_ids, payloads, traceparents):
        if order_id is None or order_id in saved:
            yield from write_event(work, tables, decided_orders.ORDER_PROCESSED, payload, traceparent)
    return [{"order_id": order_id} for order_id in saved]


def _save(
    work: Work, tables: Tables, states: Sequence[tuple[Any, ...]], instance: str | None
) -> Generator[Any, None, list[str]]:
    saved: list[str] = []
    for *decided, age in sorted(states, key=lambda state: state[0]):
        row, present = yield from work.insert_or_lock(tables.processing_states, decided[0])
        if decided[0] in saved:
            raise asyncpg.CardinalityViolationError("cannot affect row a second time")
        if present is None or present["version"] < decided[1]:
            received_at = None if age is None else work.now - age
            how = {"received_at": received_at, "decided_by": instance}
            work.write(row, dict(zip(_COLUMNS, decided, strict=True)) | how)
            saved.append(decided[0])
            yield 0.0
    return saved
