"""The statements of processor-service."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from processor_service.infrastructure import unit_of_work
from simulation.database.statements import Records, Tables, Waiting, Work, models

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


@models(unit_of_work.FIND, "bb18f040")
def states_find(work: Work, tables: Tables, ids: Sequence[str]) -> Waiting:
    rows = (tables.processing_states.rows.get(id) for id in sorted(set(ids)))
    return [values for row in rows if row and (values := work.visible(row))]
    yield


@models(unit_of_work.SAVE, "aacd0c74")
def states_save(work: Work, tables: Tables, *arguments: Any) -> Waiting:
    *columns, ages, instance = arguments
    saved: Records = []
    written: set[str] = set()
    for *decided, age in sorted(zip(*columns, ages, strict=True), key=lambda item: item[0]):
        row, present = yield from work.insert_or_lock(tables.processing_states, decided[0])
        if decided[0] in written:
            raise asyncpg.CardinalityViolationError("cannot affect row a second time")
        if present is None or present["version"] < decided[1]:
            written.add(decided[0])
            received_at = None if age is None else work.now - age
            how = {"received_at": received_at, "decided_by": instance}
            work.write(row, dict(zip(_COLUMNS, decided, strict=True)) | how)
            saved.append({"order_id": decided[0]})
            yield 0.0
    return saved
