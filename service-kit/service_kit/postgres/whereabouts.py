"""Looks for the events about one subject: published, waiting, to be tried again, set aside.

For a person who asks about one order. Each look is bounded, however much is stored.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from service_kit.postgres.database import Connection, Record
from service_kit.whereabouts import Halt, Publication, Whereabouts

PUBLICATIONS_LOOKED_AT_MAX = 4_000
"""Turns of all relays in one look: of a busy service some minutes, of a quiet one days."""
WAITING_LOOKED_AT_MAX = 50_000
_SHOWN_MAX = 20
_REASON_LENGTH_MAX = 300

# Where a look has to end: found in the index alone, so that no row is read for it.
END_OF_LOOK = """
SELECT published_at FROM publications WHERE published_at >= $1 ORDER BY published_at OFFSET $2 LIMIT 1
"""

PUBLICATIONS = f"""
SELECT id, event_type, relay, published_at, confirmed_at FROM publications
WHERE published_at >= $1 AND published_at < $2 AND $3 = ANY (subjects)
ORDER BY published_at LIMIT {_SHOWN_MAX}
"""

WAITING = f"""
SELECT event_type, created_at, due_at, attempts, last_error
FROM (SELECT * FROM outbox ORDER BY id LIMIT {WAITING_LOOKED_AT_MAX}) AS oldest
WHERE created_at >= $1 AND payload ->> $2 = $3
LIMIT {_SHOWN_MAX}
"""

RETRIES = f"""
SELECT id, event_type, last_error, attempts, first_failed_at, due_at FROM retry_queue
WHERE subject = $1 ORDER BY id LIMIT {_SHOWN_MAX}
"""

DEAD_LETTERS = f"""
SELECT id, source, original_event_type, failure_reason, attempts, times_seen, moved_to_dlq_at
FROM dead_letter_queue WHERE subject = $1 ORDER BY id LIMIT {_SHOWN_MAX}
"""

TO_THE_END = datetime(9999, 1, 1, tzinfo=UTC)

WaitsFor = Callable[[str], str]
"""What an event of that type in the outbox waits for, in words."""


async def whereabouts(
    connection: Connection,
    subject: str,
    *,
    subject_field: str,
    since: Sequence[datetime],
    until: datetime = TO_THE_END,
    waits_for: WaitsFor,
) -> Whereabouts:
    """The events about `subject`, of which one may have been written at each moment of `since`.

    Of the publications those are looked at that follow each of these moments, in their order, up to `until`.
    Without a moment nothing of it can have been written.
    """
    publications: dict[int, Publication] = {}
    problems: list[str] = []
    for start in since:
        end, is_cut = await _end_of_look(connection, start, until)
        found = await connection.fetch(PUBLICATIONS, start, end, subject)
        publications |= {row["id"]: _publication(row) for row in found}
        if is_cut and not found:
            problems.append(f"what was published after {_words(end)} was not looked for")
    waiting = await connection.fetch(WAITING, min(since), subject_field, subject) if since else []
    retries = await connection.fetch(RETRIES, subject)
    letters = await connection.fetch(DEAD_LETTERS, subject)
    halts = [*(_waiting(row, waits_for) for row in waiting), *map(_retry, retries), *map(_letter, letters)]
    in_order = sorted(publications.values(), key=lambda publication: publication.published_at)
    return Whereabouts(publications=in_order, halts=halts, problems=problems)


async def _end_of_look(connection: Connection, start: datetime, until: datetime) -> tuple[datetime, bool]:
    """Where the look that begins at `start` ends, and whether that is before `until`."""
    end: datetime | None = await connection.fetchval(END_OF_LOOK, start, PUBLICATIONS_LOOKED_AT_MAX)
    return (end, True) if end and end < until else (until, False)


def _publication(record: Record) -> Publication:
    return Publication(
        event_type=record["event_type"],
        relay=record["relay"],
        published_at=record["published_at"],
        confirmed_at=record["confirmed_at"],
    )


def _waiting(record: Record, waits_for: WaitsFor) -> Halt:
    because = waits_for(record["event_type"])
    if record["attempts"]:
        because = f"another attempt at {_words(record['due_at'])}, after: {_first_line(record['last_error'])}"
    detail = {"event_type": record["event_type"], "waits_for": because, "attempts": record["attempts"]}
    return Halt(step="waiting", at=record["created_at"], detail=detail)


def _retry(record: Record) -> Halt:
    detail = {
        "id": record["id"],
        "event_type": record["event_type"],
        "reason": _first_line(record["last_error"]),
        "attempts": record["attempts"],
        "due_at": record["due_at"],
    }
    return Halt(step="retry", at=record["first_failed_at"], detail=detail)


def _letter(record: Record) -> Halt:
    detail = {
        "id": record["id"],
        "event_type": record["original_event_type"],
        "source": record["source"],
        "reason": _first_line(record["failure_reason"]),
        "attempts": record["attempts"],
        "times_seen": record["times_seen"],
    }
    return Halt(step="dead_letter", at=record["moved_to_dlq_at"], detail=detail)


def _first_line(reason: str | None) -> str:
    """A reason may hold whatever somebody's code has raised: its first line is enough to know what to do."""
    return next(iter((reason or "").splitlines()), "")[:_REASON_LENGTH_MAX]


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
