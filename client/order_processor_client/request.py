"""One request of the API, however it is sent: what goes out, and how the answer is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from order_processor_client.errors import Problem, ProblemError, UnexpectedAnswer
from order_processor_client.retry import retry_after_seconds

T = TypeVar("T")

_encoder = msgspec.json.Encoder(decimal_format="number")


class Service(StrEnum):
    ORDER = "order"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[T]):
    """`repeatable`: sending it twice does what sending it once does, so it is sent again when it fails.

    `parse` is for answers that are a success, or of status `also`.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    service: Service = Service.ORDER
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = "application/json"
    repeatable: bool = True
    also: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some of many; `next` asks for those after them, if there are any."""

    entries: Sequence[T]
    next: "Request[Page[T]] | None"


class HasMore(Protocol):
    @property
    def has_more(self) -> bool: ...


P = TypeVar("P", bound=HasMore)


def paged(
    request: Request[P], entries: Callable[[P], Sequence[T]], **after: Callable[[T], object]
) -> Request[Page[T]]:
    """`request` as one for a page of its `entries`; the query of the next has `after` of the last entry."""

    def parse(response: httpx.Response) -> Page[T]:
        body = request.parse(response)
        found = entries(body)
        if not found or not body.has_more:
            return Page(entries=found, next=None)
        last = {name: str(of(found[-1])) for name, of in after.items()}
        following = replace(request, query={**request.query, **last})
        return Page(entries=found, next=paged(following, entries, **after))

    return cast(Request[Page[T]], replace(request, parse=parse))  # type: ignore[arg-type]


def path(*steps: str | int) -> str:
    """An URL's path. `.` and `..` are encoded too: they would lead elsewhere."""
    names = (quote(str(step), safe="") for step in steps)
    return "".join(f"/{name.replace('.', '%2E') if name in ('.', '..') else name}" for name in names)


def query(**values: object) -> dict[str, str]:
    """Those that are given, as the API reads them."""
    return {name: _in_query(value) for name, value in values.items() if value is not None}


def json_bytes(document: Any) -> bytes:
    """Decimals as numbers, exactly as they are."""
    return _encoder.encode(document)


def json_as(type_: type[T]) -> Callable[[httpx.Response], T]:
    return _reading(msgspec.json.Decoder(type_).decode)


def json_lines_as(type_: type[T]) -> Callable[[httpx.Response], list[T]]:
    return _reading(msgspec.json.Decoder(type_).decode_lines)


def _reading(decode: Callable[[bytes], T]) -> Callable[[httpx.Response], T]:
    def parse(response: httpx.Response) -> T:
        try:
            return decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unexpected(response, str(error)) from error

    return parse


def answer_of(request: Request[T], response: httpx.Response) -> T:
    """Raises ProblemError, or UnexpectedAnswer."""
    if response.is_success or response.status_code == request.also:
        return request.parse(response)
    if response.is_client_error or response.is_server_error:
        raise _problem(response)
    raise unexpected(response, "status " + str(response.status_code))


def _problem(response: httpx.Response) -> ProblemError:
    """Also of whatever stands before the service, and knows nothing of problem documents."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        word = response.reason_phrase.title().replace(" ", "")
        detail = f"{response.url.copy_with(query=None)} answered {response.status_code}"
        problem = Problem(status=response.status_code, error_type=word, detail=detail)
    return ProblemError(problem, retry_after=retry_after_seconds(response.headers.get("retry-after")))


def unexpected(response: httpx.Response, reason: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"the answer of {response.url.copy_with(query=None)} is not of this API: {reason}"
    )


def _in_query(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
