"""Which dead letters are meant: a list of ids, or everything that a filter finds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service_kit.http.inputs import RowId, Text
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.postgres.database import Connection

IDS_MAX = 10_000
LETTERS_MAX = 100_000
"""Most letters of one selection: more are asked for in parts, by group or by time."""

GroupId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
Moment = Annotated[datetime, Meta(tz=True)]


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters that fit all that is given: set aside from `since` on, and before `until`.

    What is null is refused: taken for nothing given, a mistake would select everything.
    """

    event_type: Text | UnsetType = UNSET
    group: GroupId | UnsetType = UNSET
    subject: Text | UnsetType = UNSET
    source: Literal["consumer", "outbox"] | UnsetType = UNSET
    since: Moment | UnsetType = UNSET
    until: Moment | UnsetType = UNSET


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one of the two."""

    ids: Annotated[list[RowId], Meta(min_length=1, max_length=IDS_MAX)] | UnsetType = UNSET
    filter: LetterFilter | UnsetType = UNSET


# Ids and times grow together, but for moments between taking an id and looking at the clock. Bounds of ids
# keep every index that is in the order of ids useful for a span of time. What lies between a bound and the
# span is read in vain: in a storm, thousands a second.
_FROM = """(SELECT coalesce(min(id), 9223372036854775807) FROM (
    SELECT id FROM dead_letter_queue WHERE moved_to_dlq_at >= {} - interval '10 s'
    ORDER BY moved_to_dlq_at, id LIMIT 1) AS first)"""
_TO = """(SELECT coalesce(max(id), 0) FROM (
    SELECT id FROM dead_letter_queue WHERE moved_to_dlq_at < {} + interval '10 s'
    ORDER BY moved_to_dlq_at DESC, id DESC LIMIT 1) AS last)"""

_UNINDEXED = "nullif({}, false) IS NOT NULL"


def conditions(wanted: LetterFilter, *, arguments: list[object]) -> str:
    """SQL that is true for the letters that fit; its values are appended to `arguments`.

    One text for each combination of filters, so that each has a plan of its own.
    """
    fits = ["true"]

    def argument(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    # Each filter is taken for a rare one, so of several the planner might choose the index of the least rare,
    # or read all that one of them finds and sort it. Beside the narrowest the others are no conditions of an
    # index, and taken for true of nearly every letter.
    other = "{}"
    if wanted.subject is not UNSET:
        fits.append(f"subject = {argument(wanted.subject)}::text")
        other = _UNINDEXED
    if wanted.group is not UNSET:
        group = f"group_id = {argument(wanted.group)}::text"
        fits.append(other.format(group))
        if wanted.event_type is not UNSET:  # a group has one type, so one look at it will do
            theirs = f"(SELECT original_event_type FROM dead_letter_queue WHERE {group} LIMIT 1)"
            fits.append(f"{theirs} = {argument(wanted.event_type)}::text")
        other = _UNINDEXED
    elif wanted.event_type is not UNSET:
        fits.append(other.format(f"original_event_type = {argument(wanted.event_type)}::text"))
    if wanted.source is not UNSET:
        fits.append(other.format(f"source = '{wanted.source}'"))
    if wanted.since is not UNSET:
        since = f"{argument(wanted.since)}::timestamptz"
        fits += [f"moved_to_dlq_at >= {since}", f"id >= {_FROM.format(since)}"]
    if wanted.until is not UNSET:
        until = f"{argument(wanted.until)}::timestamptz"
        fits += [f"moved_to_dlq_at < {until}", f"id <= {_TO.format(until)}"]
    return " AND ".join(fits)


def require_one_way(selection: Selection) -> None:
    """Raises Problem 400 unless exactly one way of selecting is given."""
    if (selection.ids is UNSET) == (selection.filter is UNSET):
        raise invalid_input("body", FieldError(loc=("body",), msg="must have either ids or filter"))


async def selected_ids(connection: Connection, selection: Selection) -> Sequence[int]:
    """The ids that are meant, oldest first; of those in a list some may not be there.

    Raises Problem 400 when a filter finds more than 100,000.
    """
    if selection.ids is not UNSET:
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
