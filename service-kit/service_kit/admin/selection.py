"""Which dead letters are meant: a list of ids, or everything that a filter finds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service_kit.http.inputs import RowId, Text
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.postgres.database import Connection

IDS_MAX = 10_000
LETTERS_MAX = 100_000
"""Most letters of one selection: more are asked for in parts, by group or by time."""

GroupId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
Moment = Annotated[datetime, Meta(tz=True)]


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters that fit all that is given: set aside from `since` on, and before `until`."""

    event_type: Text | None = None
    group: GroupId | None = None
    subject: Text | None = None
    source: Literal["consumer", "outbox"] | None = None
    since: Moment | None = None
    until: Moment | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of the two."""

    ids: Annotated[list[RowId], Meta(min_length=1, max_length=IDS_MAX)] | None = None
    filter: LetterFilter | None = None


# Ids and times grow together, but for moments between taking an id and looking at the clock. Bounds of ids
# keep every index that is in the order of ids useful for a span of time.
_FROM = """(SELECT coalesce(min(id), 9223372036854775807) FROM (
    SELECT id FROM dead_letter_queue WHERE moved_to_dlq_at >= {} - interval '1 min'
    ORDER BY moved_to_dlq_at, id LIMIT 1) AS first)"""
_TO = """(SELECT coalesce(max(id), 0) FROM (
    SELECT id FROM dead_letter_queue WHERE moved_to_dlq_at < {} + interval '1 min'
    ORDER BY moved_to_dlq_at DESC, id DESC LIMIT 1) AS last)"""


def conditions(wanted: LetterFilter, *, arguments: list[object]) -> str:
    """SQL that is true for the letters that fit; its values are appended to `arguments`.

    One text for each combination of filters, so that each has a plan of its own.
    """
    fits = ["true"]

    def argument(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    for column, value in (
        ("original_event_type", wanted.event_type),
        ("group_id", wanted.group),
        ("subject", wanted.subject),
    ):
        if value is not None:
            fits.append(f"{column} = {argument(value)}::text")
    if wanted.source is not None:
        fits.append(f"source = '{wanted.source}'")
    if wanted.since is not None:
        since = f"{argument(wanted.since)}::timestamptz"
        fits += [f"moved_to_dlq_at >= {since}", f"id >= {_FROM.format(since)}"]
    if wanted.until is not None:
        until = f"{argument(wanted.until)}::timestamptz"
        fits += [f"moved_to_dlq_at < {until}", f"id <= {_TO.format(until)}"]
    return " AND ".join(fits)


def require_one_way(selection: Selection) -> None:
    """Raises Problem 400 unless exactly one way of selecting is given."""
    if (selection.ids is None) == (selection.filter is None):
        raise invalid_input("body", FieldError(loc=("body",), msg="must have either ids or filter"))


async def selected_ids(connection: Connection, selection: Selection) -> Sequence[int]:
    """The ids that are meant, oldest first; of those in a list some may not be there.

    Raises Problem 400 when a filter finds more than 100,000.
    """
    if selection.ids is not None:
        return sorted(set(selection.ids))
    arguments: list[object] = []
    fits = conditions(selection.filter or LetterFilter(), arguments=arguments)
    sql = f"SELECT id FROM dead_letter_queue WHERE {fits} ORDER BY id LIMIT {LETTERS_MAX + 1}"
    ids = [record["id"] for record in await connection.fetch(sql, *arguments)]
    if len(ids) > LETTERS_MAX:
        detail = (
            f"The filter finds more than {LETTERS_MAX:,} dead letters: select fewer, by group or by time."
        )
        raise Problem(400, "SelectionTooLarge", detail)
    return ids
