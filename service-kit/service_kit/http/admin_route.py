"""A route of the admin API: for operators alone, in JSON, and never kept by anybody on the way."""

from collections.abc import Awaitable, Callable

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.errors import Unavailable
from service_kit.http.access import Operator, operator_of
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role
from service_kit.http.problems import Problem

log = structlog.stdlib.get_logger()

_encoder = msgspec.json.Encoder(decimal_format="number")
_HEADERS = {"cache-control": "no-store"}


def admin_route(
    method: str,
    path: str,
    answer: Callable[[Request, Operator], Awaitable[object]],
    *,
    status: int = 200,
) -> Route:
    """What `answer` returns becomes the JSON of the response. Whoever may not operate is refused before."""

    async def endpoint(request: Request) -> Response:
        operator = operator_of(request)
        try:
            found = await answer(request, operator)
        except Unavailable as outage:
            log.warning("admin_request_failed", path=request.url.path, reason=str(outage))
            raise _unavailable() from outage
        return Response(_encoder.encode(found), status, headers=_HEADERS, media_type="application/json")

    return Route(path, Endpoint(endpoint, Role.ADMIN), methods=[method])


def _unavailable() -> Problem:
    detail = "The database does not answer. Look at what is there before you repeat a change."
    return Problem(503, "ServiceUnavailable", detail, retry_after_seconds=2)
