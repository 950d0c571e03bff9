"""The statements of order-service."""

from collections.abc import Sequence
from decimal import Decimal
from math import inf

import asyncpg

from order_service.infrastructure import intake, reader, results, unit_of_work
from simulation.database.kit_statements import moment, write_event
from simulation.database.rows import Values
from simulation.database.statements import Records, Tables, Waiting, Work, models


@models(intake.INSERT_NEW, "2d7b364f")
def orders_insert_new(
    work: Work,
    tables: Tables,
    ids: Sequence[str],
    customers: Sequence[str],
    items: Sequence[str],
    amounts: Sequence[Decimal],
    payloads: Sequence[str],
    traces: Sequence[str],
    ages: Sequence[float | None],
    instance: str | None,
) -> Waiting:
    created: Records = []
    for index in sorted(range(len(ids)), key=ids.__getitem__):
        row = yield from work.insert_new(tables.orders, ids[index])
        if row is None:
            continue
        order = _new_order(work, ids[index], customers[index], items[index], amounts[index])
        age = ages[index]
        accepted_at = None if age is None else work.now - age
        work.write(row, order | {"accepted_at": accepted_at, "accepted_by": instance, "applied_by": None})
        created.append({"order_id": ids[index], "created_at": moment(work.now)})
        yield 0.0
    new = {record["order_id"] for record in created}
    for id, payload, trace in zip(ids, payloads, traces, strict=True):
        if id in new:
            yield from write_event(work, tables, "order.created", payload, trace)
    for record in created:
        yield from _log(work, tables, "order.created", record["order_id"], 1)
    return created


def _log(
    work: Work, tables: Tables, type: str, order_id: str, version: int, reason: str | None = None
) -> Waiting:
    row = yield from work.insert_new(tables.order_log, tables.order_log.next_id())
    assert row
    change = {"type": type, "order_id": order_id, "version": version, "reason": reason}
    work.write(row, {"position": row.key, "at": work.now, **change})


def _new_order(work: Work, id: str, customer: str, items: str, amount: Decimal) -> Values:
    return {
        "order_id": id,
        "customer_id": customer,
        "items": items,
        "amount": amount,
        "status": "pending",
        "version": 1,
        "fail_reason": None,
        "cancel_reason": None,
        "created_at": work.now,
        "updated_at": work.now,
        "reemitted_at": None,
    }


@models(intake.FIND, "c410865e")
def orders_find(work: Work, tables: Tables, ids: Sequence[str]) -> Waiting:
    return _found(work, tables, ids)
    yield


@models(reader.SUMMARIES, "12f43e0f")
def orders_summaries(work: Work, tables: Tables, ids: Sequence[str]) -> Waiting:
    return _found(work, tables, ids)
    yield


def _found(work: Work, tables: Tables, ids: Sequence[str]) -> Records:
    rows = (tables.orders.rows.get(id) for id in sorted(set(ids)))
    return [_shown(values) for row in rows if row and (values := work.visible(row))]


def _shown(values: Values) -> Values:
    times = {name: moment(values[name]) for name in ("created_at", "updated_at")}
    return values | times


@models(results.APPLY, "376b98b1")
def orders_apply(
    work: Work,
    tables: Tables,
    keys: Sequence[str],
    ids: Sequence[str],
    statuses: Sequence[str],
    reasons: Sequence[str | None],
    versions: Sequence[int],
    instance: str | None,
) -> Waiting:
    given = sorted(zip(ids, keys, statuses, reasons, versions, strict=True), key=lambda result: result[0])
    seen = [
        (row, values, result)
        for result in given
        if (row := tables.orders.rows.get(result[0])) and (values := work.visible(row))
    ]
    for row, _, _ in seen:
        yield from work.lock(row)
        yield 0.0
    accepted = set[str]()
    for key in sorted(key for _, _, (_, key, *_) in seen):
        row = yield from work.insert_new(tables.inbox, key)
        if row:
            work.write(row, {"event_key": key, "processed_at": work.now})
            accepted.add(key)
            yield 0.0
    finished: Records = []
    for row, snapshot, (id, key, status, reason, version) in seen:
        values = work.visible(row)
        if key not in accepted or not _may_finish(snapshot, version):
            continue
        if values is None or not _may_finish(values, version):
            continue
        if status != "failed" and reason is not None:
            raise asyncpg.CheckViolationError("orders_check")
        change = {"status": str(status), "fail_reason": reason, "version": version}
        work.write(row, values | change | {"updated_at": work.now, "applied_by": instance})
        age = work.clock() - values["created_at"]
        finished.append({"order_id": id, "status": str(status), "seconds": age})
        yield from _log(work, tables, f"order.{status}", id, version, reason)
    known = {row.key for row, _, _ in seen}
    return finished + [{"order_id": id, "status": None, "seconds": None} for id in ids if id not in known]


def _may_finish(values: Values, version: int) -> bool:
    return bool(values["status"] == "pending" and values["version"] < version)


@models(unit_of_work.CANCEL, "8ad524d8")
def orders_cancel(work: Work, tables: Tables, id: str, reason: str | None, instance: str | None) -> Waiting:
    row = tables.orders.rows.get(id)
    if row is None or not _may_cancel(work.visible(row)):
        return []
    values = yield from work.lock(row)
    if values is None or not _may_cancel(values):
        return []
    change = {"status": "cancelled", "cancel_reason": reason, "version": values["version"] + 1}
    cancelled = values | change | {"updated_at": work.now, "applied_by": instance}
    work.write(row, cancelled)
    yield from _log(work, tables, "order.cancelled", id, cancelled["version"], reason)
    return [_shown(cancelled)]


def _may_cancel(values: Values | None) -> bool:
    return values is not None and values["status"] == "pending"


@models(unit_of_work.TAKE_OVERDUE, "09dd1690")
def orders_take_overdue(work: Work, tables: Tables, limit: int, after_seconds: float) -> Waiting:
    events = [values for _, values in work.read(tables.outbox)]
    oldest = min(events, key=lambda values: values["id"])["created_at"] if events else inf

    def overdue(values: Values) -> bool:
        created_at, reemitted_at = values["created_at"], values["reemitted_at"]
        return bool(
            values["status"] == "pending"
            and created_at <= work.now - after_seconds
            and created_at < oldest
            and (reemitted_at is None or work.now - reemitted_at >= min(reemitted_at - created_at, 3600))
        )

    candidates = [item for item in work.read(tables.orders) if overdue(item[1])]
    candidates.sort(key=lambda item: item[1]["created_at"])
    if candidates:
        yield 0.0
    taken: Records = []
    for row, _ in candidates:
        values = work.visible(row)
        if len(taken) < limit and work.free(row) and values and overdue(values):
            work.take(row)
            work.write(row, values | {"reemitted_at": work.now})
            taken.append(_shown(values))
    return taken
