"""Both services, asked with the requests of the client, and what is said when one does not answer."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx

from order_processor_client.admin_requests import AdminRequests
from order_processor_client.errors import ClientError, ProblemError, Unreachable
from order_processor_client.request import Request, Service, answer_of

T = TypeVar("T")

NAMES: Mapping[Service, str] = {
    Service.ORDER: "order-service",
    Service.PROCESSOR: "processor-service",
}
ADMIN: Mapping[Service, AdminRequests] = {service: AdminRequests(service) for service in Service}

_READ_SECONDS_MAX, _CHANGE_SECONDS_MAX = 10.0, 60.0


class Services:
    """Sends each request once, with the console's key; whoever looks at the page decides whether again.

    The URLs are asked for at each request: those of services in this process are not known at first.
    """

    def __init__(self, urls: Mapping[Service, Callable[[], str]], key: str | None) -> None:
        self._urls = urls
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(headers=headers, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, request: Request[T], *, operator: str | None = None) -> T:
        """Raises ClientError. `operator` is who changes something."""
        url = self._urls[request.service]()
        headers = {b"content-type": request.content_type.encode()} if request.body is not None else {}
        try:
            response = await self._http.request(
                request.method,
                url + request.path,
                params=request.query or None,
                content=request.body,
                headers=headers | ({b"x-operator": operator.encode()} if operator else {}),
                timeout=_READ_SECONDS_MAX if request.method == "GET" else _CHANGE_SECONDS_MAX,
            )
        except httpx.HTTPError as error:
            raise Unreachable(url, str(error) or type(error).__name__) from error
        return answer_of(request, response)

    async def attempt(self, request: Request[T]) -> "Answer[T]":
        """For pages that show the rest when one answer is missing."""
        try:
            answer = await self.ask(request)
            return Answer(value=answer)
        except ClientError as error:
            return Answer(problem=f"{NAMES[request.service]} {why(error)}")

    async def both(self, request: Callable[[AdminRequests], Request[T]]) -> "dict[Service, Answer[T]]":
        """The same of both services, at once."""
        answers = await asyncio.gather(*(self.attempt(request(ADMIN[service])) for service in Service))
        return dict(zip(Service, answers, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """One of both: what was asked for, or in words why it is not there."""

    value: T | None = None
    problem: str | None = None


def why(error: ClientError) -> str:
    """How a sentence goes on that begins with the service's name."""
    match error:
        case Unreachable():
            return f"does not answer ({error.reason})"
        case ProblemError(status=401):
            return "does not take the console's key: both services need the same APP__ADMIN_KEY"
        case _:
            return f"says: {error}"
