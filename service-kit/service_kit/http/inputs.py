"""What a request asks for, read into a struct: each fault becomes one clear problem."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, inspect
from starlette.requests import Request

from service_kit.http.body import read_body
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.http.query import moment, read_query

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

# What a database can store, and so what can be found there: neither NUL nor lone surrogates.
STORABLE = r"^[^\x00\ud800-\udfff]*$"
Text = Annotated[str, Meta(min_length=1, max_length=1000, pattern=STORABLE)]
CustomerId = Annotated[str, Meta(min_length=1, max_length=255, pattern=STORABLE)]
RowId = Annotated[int, Meta(ge=1, le=2**63 - 1)]
PageSize = Annotated[int, Meta(ge=1, le=500)]

_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def query(request: Request, kind: type[S]) -> S:
    """The query as a struct `kind`. Raises Problem 400 as `read_query`."""
    values = read_query(request.scope, _readers(kind))
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid("query", error) from error


@cache
def _readers(kind: type[msgspec.Struct]) -> Mapping[str, Callable[[str], object]]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {field.name: _reader(field.type) for field in info.fields}


def _reader(type: inspect.Type) -> Callable[[str], object]:
    """A lax conversion takes a number for a time, in seconds since 1970, and `1e1` for a whole number."""
    kinds = type.types if isinstance(type, inspect.UnionType) else (type,)
    if any(isinstance(each, inspect.DateTimeType) for each in kinds):
        return moment
    return _whole if any(isinstance(each, inspect.IntType) for each in kinds) else str


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise ValueError("must be a whole number")
    return int(text)


async def json_body(request: Request, kind: type[T]) -> T:
    """The body as a `kind`. Raises Problem 400 with what is wrong where, and 413 as `read_body`."""
    raw = await read_body(request)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid("body", error) from error
    except _UNREADABLE as error:
        raise invalid_input("body", FieldError(loc=("body",), msg=why_unreadable(error))) from error


def why_unreadable(error: Exception) -> str:
    """Why bytes are no JSON, as a client is told: what msgspec raises is in part Python's own words."""
    match error:
        case ArithmeticError():
            reason = "a number is out of range"
        case UnicodeDecodeError():
            reason = "it is not UTF-8"
        case RecursionError():
            reason = "it is nested too deeply"
        case _:
            reason = str(error)
    return f"is not readable: {reason}"


def given(value: T | UnsetType) -> T | None:
    """None for what was left out."""
    return None if value is UNSET else value


def row_id(path_params: Mapping[str, str], name: str) -> int | None:
    """The number in the path, or None when no row can have it."""
    text = path_params[name]
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    return int(text) if 0 < int(text) < 2**63 else None


def _invalid(part: str, error: msgspec.ValidationError) -> Problem:
    words = str(error)
    place = _PLACE.search(words)
    steps = _STEP.findall(place["path"]) if place else []
    loc: list[str | int] = [part, *(name or int(index) for name, index in steps)]
    return invalid_input(part, FieldError(loc=loc, msg=words[: place.start()] if place else words))
