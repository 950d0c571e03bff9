"""A request's query, read strictly: nothing in it is overlooked."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Scope

from service_kit.http.problems import FieldError, Problem, invalid_input

_PARAMETERS_MAX = 100


def read_query(scope: Scope, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The parameters that are given, by name, each as its reader understands it.

    A reader raises ValueError, whose words are told. Raises Problem 400 with every fault: a parameter without
    a reader, one that comes twice, one that is no UTF-8.
    """
    raw: bytes = scope["query_string"]
    if not raw:
        return {}
    values: dict[str, Any] = {}
    faults: list[FieldError] = []
    for name, text in _pairs(raw):
        try:
            if name not in readers:
                raise ValueError("is not a known parameter")
            if name in values:
                raise ValueError("is given more than once")
            values[name] = readers[name](text)
        except ValueError as error:
            faults.append(FieldError(loc=("query", name), msg=str(error)))
    if faults:
        raise invalid_input("query", *faults)
    return values


def moment(text: str) -> datetime:
    """A reader of times, in UTC."""
    try:
        given = msgspec.convert(text, datetime)
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    raise ValueError("must be a time with its zone (RFC 3339), such as 2026-11-24T11:28:26Z or …%2B03:00")


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode(),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_PARAMETERS_MAX,
        )
    except UnicodeDecodeError:
        raise Problem.of_status(400, "The query is not UTF-8.") from None
    except ValueError as error:
        raise invalid_input("query", FieldError(loc=("query",), msg=f"is not readable: {error}")) from None
