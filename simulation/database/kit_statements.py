"""The statements of `service_kit.postgres`: outbox, inbox, retries, dead letters, housekeeping."""

import json
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from service_kit.failures import DEATH_HEADERS
from service_kit.postgres import dead_letters, failures, housekeeping, outbox
from service_kit.testing import inbox
from simulation.database.rows import Row, Table, Values
from simulation.database.statements import Records, Tables, Waiting, Work, models

_BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    return _BEGINNING + timedelta(seconds=seconds)


@models(outbox.ADD, "46123a24")
def outbox_add(
    work: Work, tables: Tables, types: Sequence[str], payloads: Sequence[str], traces: Sequence[str | None]
) -> Waiting:
    for event_type, payload, trace in zip(types, payloads, traces, strict=True):
        yield from write_event(work, tables, event_type, payload, trace)
    return []


def write_event(
    work: Work,
    tables: Tables,
    event_type: str,
    payload: str,
    trace: str | None,
    message_id: str | None = None,
) -> Generator[Any, None, int]:
    id = tables.outbox.next_id()
    row = yield from work.insert_new(tables.outbox, id)
    assert row
    values = {
        "id": id,
        "event_type": event_type,
        "payload": payload,
        "message_id": message_id or _uuid(tables.prefix, id),
        "traceparent": trace,
        "created_at": work.now,
        "due_at": work.now,
        "attempts": 0,
        "last_error": None,
    }
    work.write(row, values)
    return id


def _uuid(prefix: str, id: int) -> str:
    return f"{prefix.encode().hex():0<8.8}-0000-4000-8000-{id:012x}"


@models(outbox.CLAIM, "e1bb2f91")
def outbox_claim(
    work: Work, tables: Tables, limit: int, only: str | None, excluding: Sequence[str]
) -> Waiting:
    def wanted(values: Values) -> bool:
        return (
            values["due_at"] <= work.now
            and (only is None or values["event_type"] == only)
            and values["event_type"] not in excluding
        )

    candidates = [(row, values) for row, values in work.read(tables.outbox) if wanted(values)]
    candidates.sort(key=lambda item: item[1]["id"])
    if candidates:
        yield 0.0
    claimed: Records = []
    for row, _ in candidates:
        if len(claimed) == limit:
            break
        if work.free(row):
            values = work.visible(row)
            if values is not None and wanted(values):
                work.take(row)
                claimed.append(values | {"waited_seconds": work.clock() - values["created_at"]})
    return claimed


@models(outbox.REMOVE, "0c2b009f")
def outbox_remove(
    work: Work, tables: Tables, ids: Sequence[int], field: str, relay: str, sent: float, confirmed: float
) -> Waiting:
    subjects: dict[str, list[str]] = {}
    for values in (yield from _delete(work, tables.outbox, ids)):
        of_its_type = subjects.setdefault(values["event_type"], [])
        if (subject := _subject(values["payload"], field)) is not None:
            of_its_type.append(subject)
    for event_type, named in subjects.items():
        row = yield from work.insert_new(tables.publications, tables.publications.next_id())
        assert row
        times = {"published_at": work.now + sent, "confirmed_at": work.now + confirmed}
        work.write(row, {"id": row.key, "event_type": event_type, "relay": relay, "subjects": named, **times})
    return []


@models(outbox.POSTPONE, "24071019")
def outbox_postpone(
    work: Work, tables: Tables, ids: Sequence[int], reasons: Sequence[str], delays: Sequence[float]
) -> Waiting:
    for row, reason, delay in zip(_present(tables, ids), reasons, delays, strict=True):
        values = (yield from work.lock(row)) if row else None
        if row and values:
            again = {"attempts": values["attempts"] + 1, "last_error": reason, "due_at": work.now + delay}
            work.write(row, values | again)
    return []


@models(outbox.BURY, "1cfdb98b")
def outbox_bury(
    work: Work, tables: Tables, ids: Sequence[int], reasons: Sequence[str], field: str
) -> Waiting:
    for row, reason in zip(_present(tables, ids), reasons, strict=True):
        values = (yield from work.lock(row)) if row else None
        if not row or not values:
            continue
        work.write(row, None)
        key = f"outbox:{values['message_id']}"
        letter = yield from work.insert_new(tables.letters, key)
        if letter is None:
            raise asyncpg.UniqueViolationError("dead_letter_queue_event_key_key")
        trace = values["traceparent"]
        content = {
            "source": "outbox",
            "event_key": key,
            "original_event_type": values["event_type"],
            "payload": values["payload"],
            "body": values["payload"].encode(),
            "message_id": values["message_id"],
            "headers": f'{{"traceparent":"{trace}"}}' if trace else "{}",
            "failure_reason": reason,
            "attempts": values["attempts"] + 1,
            "subject": _indexed(_subject(values["payload"], field)),
        }
        work.write(letter, _new_letter(work, tables, content))
    return []


def _new_letter(work: Work, tables: Tables, content: Values) -> Values:
    seen = {"times_seen": 1, "moved_to_dlq_at": moment(work.now), "last_seen_at": work.now}
    return {"id": tables.letters.next_id(), **content, **seen}


@models(outbox.BACKLOG, "76a14432")
def outbox_backlog(work: Work, tables: Tables) -> Waiting:
    rows = [values for _, values in work.read(tables.outbox)]
    oldest = min(rows, key=lambda values: values["id"])["created_at"] if rows else None
    return [{"pending": len(rows), "oldest_created_at": None if oldest is None else moment(oldest)}]
    yield


@models(outbox.LAG, "66f0a43b")
def outbox_lag(work: Work, tables: Tables) -> Waiting:
    rows = [values for _, values in work.read(tables.outbox)]
    return [{"lag": work.now - min(rows, key=lambda v: v["id"])["created_at"]}] if rows else []
    yield


@models(inbox.ACCEPT, "55a0d8c1")
def inbox_accept(work: Work, tables: Tables, keys: Sequence[str]) -> Waiting:
    accepted: Records = []
    for key in sorted(keys):
        row = yield from work.insert_new(tables.inbox, key)
        if row:
            work.write(row, {"event_key": key, "processed_at": work.now})
            accepted.append({"event_key": key})
            yield 0.0
    return accepted


@models(failures.END, "98aa38ea")
def retries_end(work: Work, tables: Tables, ids: Sequence[int]) -> Waiting:
    return (yield from _delete(work, tables.retries, ids))


@models(failures.POSTPONE, "7408af32")
def retries_postpone(work: Work, tables: Tables, *columns: Sequence[Any]) -> Waiting:
    names = ("event_key", "event_type", "body", "message_id", "headers", "attempts", "last_error", "subject")
    for item in sorted(zip(*columns, strict=True), key=lambda item: item[0]):
        *content, first_failed_at, delay = item
        row = yield from work.insert_new(tables.retries, content[0])
        if row:
            times = {
                "first_failed_at": work.now if first_failed_at is None else first_failed_at,
                "due_at": work.now + delay,
            }
            work.write(
                row, {"id": tables.retries.next_id(), **dict(zip(names, content, strict=True)), **times}
            )
    return []


@models(failures.BURY, "ec9e19f8")
def letters_bury(work: Work, tables: Tables, key: str, *columns: Any) -> Waiting:
    event_type, body, message_id, headers, attempts, reason, subject, first_failed_at, payload = columns
    if payload is not None and "\\u0000" in payload:
        raise asyncpg.UntranslatableCharacterError("unsupported Unicode escape sequence")
    row, present = yield from work.insert_or_lock(tables.letters, key)
    if present is not None:
        again = {"times_seen": present["times_seen"] + 1, "failure_reason": reason, "last_seen_at": work.now}
        work.write(row, present | again)
        return []
    content = {
        "source": "consumer",
        "event_key": key,
        "original_event_type": event_type,
        "payload": payload,
        "body": body,
        "message_id": message_id,
        "headers": headers,
        "failure_reason": reason,
        "attempts": attempts,
        "subject": subject,
        "first_failed_at": work.now if first_failed_at is None else first_failed_at,
    }
    work.write(row, _new_letter(work, tables, content))
    return []


@models(failures.POSTPONED, "460158bb")
def retries_postponed(work: Work, tables: Tables, keys: Sequence[str]) -> Waiting:
    rows = (tables.retries.rows.get(key) for key in sorted(set(keys)))
    return [{"event_key": row.key} for row in rows if row and work.visible(row)]
    yield


@models(failures.LEASE, "b2396c40")
def retries_lease(work: Work, tables: Tables, limit: int, lease_seconds: float) -> Waiting:
    due = [item for item in work.read(tables.retries) if item[1]["due_at"] <= work.now]
    due.sort(key=lambda item: item[1]["due_at"])
    if due:
        yield 0.0
    leased: Records = []
    for row, seen in due:
        values = work.visible(row)
        same = values is not None and values["id"] == seen["id"]
        if len(leased) < limit and work.free(row) and values and same and values["due_at"] <= work.now:
            work.take(row)
            work.write(row, values | {"due_at": work.now + lease_seconds})
            leased.append(values)
    return leased


@models(dead_letters.LIST, "479348e8")
def letters_list(work: Work, tables: Tables, after_id: int, limit: int) -> Waiting:
    letters = [values for _, values in work.read(tables.letters) if values["id"] > after_id]
    letters.sort(key=lambda values: values["id"])
    return letters[:limit]
    yield


@models(dead_letters.GET, "0ad3f6f5")
def letters_get(work: Work, tables: Tables, id: int) -> Waiting:
    return [values for _, values in work.read(tables.letters) if values["id"] == id]
    yield


@models(dead_letters.DISCARD, "dbace9f4")
def letters_discard(work: Work, tables: Tables, ids: Sequence[int]) -> Waiting:
    return (yield from _delete(work, tables.letters, ids))


@models(dead_letters.REPLAY, "932f6179")
def letters_replay(work: Work, tables: Tables, ids: Sequence[int]) -> Waiting:
    letters = yield from _delete(work, tables.letters, ids)
    handed: Records = []
    for letter in letters:
        to: Values = {"event_key": letter["event_key"], "retry_id": None, "outbox_id": None}
        if letter["source"] == "consumer":
            to["retry_id"] = yield from _retry_now(work, tables, letter)
        else:
            trace = letter["headers"].partition('"traceparent":"')[2].rstrip('"}') or None
            to["outbox_id"] = yield from write_event(
                work, tables, letter["original_event_type"], letter["payload"], trace, letter["message_id"]
            )
        handed.append(to)
    return handed


def _retry_now(work: Work, tables: Tables, letter: Values) -> Generator[Any, None, int]:
    row, present = yield from work.insert_or_lock(tables.retries, letter["event_key"])
    if present is not None:
        work.write(row, present | {"due_at": work.now, "attempts": 0})
        return int(present["id"])
    content = {name: letter[name] for name in ("event_key", "body", "message_id", "subject")}
    content |= {"headers": _without_death(letter["headers"])}
    content |= {"event_type": letter["original_event_type"], "attempts": 0}
    content |= {"last_error": letter["failure_reason"], "first_failed_at": work.now, "due_at": work.now}
    id = tables.retries.next_id()
    work.write(row, {"id": id, **content})
    return id


def _without_death(headers: str) -> str:
    kept = {name: value for name, value in json.loads(headers).items() if name not in DEATH_HEADERS}
    return json.dumps(kept)


@models(housekeeping.FORGET, "f4bb6e13")
def inbox_forget(work: Work, tables: Tables, days: float) -> Waiting:
    _forget(work, tables.inbox, "processed_at", days)
    return []
    yield


@models(housekeeping.FORGET_PUBLICATIONS, "7e95ae3a")
def publications_forget(work: Work, tables: Tables, days: float) -> Waiting:
    _forget(work, tables.publications, "published_at", days)
    return []
    yield


def _forget(work: Work, table: Table, moment: str, days: float) -> None:
    old = [row for row, values in work.read(table) if values[moment] < work.now - days * 86_400]
    for row in old[:5000]:
        if work.free(row) and work.visible(row):
            work.take(row)
            work.write(row, None)


@models(housekeeping.DEAD_ROWS, "119c9393")
def outbox_dead_rows(work: Work, tables: Tables) -> Waiting:
    return [{"n_dead_tup": 0}]
    yield


@models(housekeeping.VACUUM, "86721f4a")
def outbox_vacuum(work: Work, tables: Tables) -> Waiting:
    return []
    yield


@models(housekeeping.COUNT, "6854b33a")
def housekeeping_count(work: Work, tables: Tables) -> Waiting:
    return [{"dead": len(work.read(tables.letters)), "retries": len(work.read(tables.retries))}]
    yield


def _subject(payload: str, field: str) -> str | None:
    """`payload ->> field`, of fields that are text."""
    subject = msgspec.json.decode(payload).get(field)
    return None if subject is None else str(subject)


def _indexed(subject: str | None) -> str | None:
    return subject if subject is not None and len(subject) <= 255 else None


def _present(tables: Tables, ids: Sequence[int]) -> list[Row | None]:
    return [tables.outbox.rows.get(id) for id in ids]


def _delete(work: Work, table: Table, ids: Sequence[int]) -> Waiting:
    """Delete the rows of those ids that are still there when they are locked; return them as they were.

    A row of the same key but another id was written anew meanwhile, and is another row.
    """
    wanted, deleted = set(ids), list[Values]()
    for row in [row for row, values in work.read(table) if values["id"] in wanted]:
        values = yield from work.lock(row)
        if values is not None and values["id"] in wanted:
            work.write(row, None)
            deleted.append(values)
    return deleted
