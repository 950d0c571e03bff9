"""What a log line about one order says of it, besides what happened."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from service_kit.observability.trace_context import trace_id

_NOTHING: Mapping[str, str | None] = {}
_traceparents: ContextVar[Mapping[str, str | None]] = ContextVar("traceparents", default=_NOTHING)


def about(
    subject_field: str, subject: str | None, traceparent: object, **fields: object
) -> dict[str, object]:
    """The fields of a line about `subject`: its name, its trace as far as that is known, and `fields`."""
    found: dict[str, object] = {} if subject is None else {subject_field: subject}
    if (trace := trace_id(traceparent)) is not None:
        found["trace_id"] = trace
    return found | fields


@contextmanager
def in_traces(traceparents: Mapping[str, str | None]) -> Iterator[None]:
    """Within this block `traceparent_of` knows the traces of these subjects, which are handled together."""
    token = _traceparents.set(traceparents)
    try:
        yield
    finally:
        _traceparents.reset(token)


def traceparent_of(subject: str) -> str | None:
    return _traceparents.get().get(subject)


def subject_in(payload: bytes, subject_field: str) -> str | None:
    """Whom an event's JSON is about, as well as can be told of broken JSON too, or None; raises nothing."""
    try:
        event = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _first_subject(payload, subject_field)
    subject = event.get(subject_field) if isinstance(event, Mapping) else None
    return subject if isinstance(subject, str) else None


def _first_subject(payload: bytes, subject_field: str) -> str | None:
    field = re.escape(subject_field).encode()
    found = re.search(rb'"' + field + rb'"\s*:\s*("(?:[^"\\]|\\.){1,1024}")', payload)
    try:
        return msgspec.json.decode(found[1], type=str) if found else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
