"""A request's body as a typed value."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from service_kit.http.body import read_body
from service_kit.http.problems import FieldError, Problem

T = TypeVar("T")


async def json_body(request: Request, kind: type[T]) -> T:
    """The body as a `kind`. Raises Problem: 400 that says what is wrong with it, and as `read_body` does."""
    raw = await read_body(request)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = FieldError(loc=("body",), msg=str(error))
        raise Problem(400, "ValidationError", "The body is not valid.", errors=[problem]) from error
