"""Errors as `application/problem+json` (RFC 9457)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from starlette.responses import Response
from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:order-processor:problem:"
_URI_CHARACTERS = "/%:@!$&'()*+,;=~"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one part of the input; `loc` leads there, such as `("body", "items", 0, "sku")`."""

    loc: Sequence[str | int]
    msg: str


class Problem(Exception):
    """An answer that is an error; raised anywhere below the routes.

    `error_type` is a stable word for programs (`OrderConflict`); the title is made of it, and the `type` is a
    URN that ends in it. `detail` is for people and must not tell internals. `retry_after_seconds` becomes a
    header, in whole seconds. `members` are further members of the body, of this kind of problem alone.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error_type = error_type
        self.detail = detail
        self.errors = errors
        self.members = members
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["retry-after"] = str(retry_after_seconds)

    @classmethod
    def of_status(cls, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> "Problem":
        """A problem that has no more to say than its status: the error type is the status in one word."""
        return cls(status, HTTPStatus(status).phrase.title().replace(" ", ""), detail, headers=headers)


def invalid_input(part: str, *faults: FieldError) -> Problem:
    """Of a request's `part` (query, body) that is not valid."""
    return Problem(400, "ValidationError", f"The {part} is not valid.", errors=faults)


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    title: str
    status: int
    detail: str
    instance: str
    error_type: str
    errors: Sequence[FieldError] | msgspec.UnsetType = msgspec.UNSET


def problem_body(problem: Problem, instance: str) -> bytes:
    """The problem as JSON; `instance` is the path that was asked for, percent-encoded."""
    body = _Body(
        type=TYPE_PREFIX + problem.error_type,
        title=_WORD_START.sub(" ", problem.error_type).capitalize(),
        status=problem.status,
        detail=_encodable(problem.detail),
        instance=instance,
        error_type=problem.error_type,
        errors=[_encodable_error(error) for error in problem.errors] or msgspec.UNSET,
    )
    if problem.members:
        return msgspec.json.encode(msgspec.to_builtins(body) | problem.members)
    return msgspec.json.encode(body)


def problem_response(problem: Problem, scope: Scope) -> Response:
    body = problem_body(problem, instance_of(scope))
    headers = {"x-content-type-options": "nosniff", **problem.headers}
    return Response(body, problem.status, headers=headers, media_type=MEDIA_TYPE)


def instance_of(scope: Scope) -> str:
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    return quote(raw_path.decode("latin-1"), safe=_URI_CHARACTERS)


def _encodable_error(error: FieldError) -> FieldError:
    loc = [_encodable(step) if isinstance(step, str) else step for step in error.loc]
    return FieldError(loc=loc, msg=_encodable(error.msg))


def _encodable(text: str) -> str:
    """A lone surrogate, which JSON input may hold, has no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode()
