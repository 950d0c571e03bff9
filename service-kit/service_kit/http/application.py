"""A service's routes as one ASGI application, in which every error is a problem."""

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.http.access import Access
from service_kit.http.endpoint import ACCESS
from service_kit.http.measured import Measured
from service_kit.http.problems import Problem, problem_response
from service_kit.observability.metrics import Metrics

log = structlog.stdlib.get_logger()


Routes = Sequence[BaseRoute]

LOG_FIELDS = "service_kit.log_fields"
"""Of a request's scope: what a line about its failure says besides (such as an order's id)."""


NOBODY = Access(None)


def application(routes: Routes, *, metrics: Metrics, access: Access = NOBODY) -> ASGIApp:
    """An application that answers every request, at worst with a problem 500, and measures each.

    `access` lets requests in to the routes that have a role.

    Starlette's own class is left out: its outer layer reports every unexpected error a second time, and it
    redirects between `/orders` and `/orders/`.
    """
    router = Router(routes, redirect_slashes=False, default=_no_such_route)
    return Measured(_Problems(router, routes, access), metrics.http_request_duration)


class _Problems:
    """Turns what is raised below into problems."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], access: Access) -> None:
        self._app = app
        self._access = access
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answering = False

        async def noting_send(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        scope[ACCESS] = self._access
        scope["app"] = self  # tells the router to raise, and not to answer by itself
        try:
            _refuse_unreadable_path(scope)
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            return
        except Exception as error:
            if answering:
                raise  # too late for a problem: the server logs it and cuts the connection
            await problem_response(self._problem(error, scope), scope)(scope, receive, send)

    def _problem(self, error: Exception, scope: Scope) -> Problem:
        match error:
            case Problem():
                return error
            case HTTPException(status_code=405):
                allow = {"allow": ", ".join(allowed_methods(self._routes, scope))}
                return Problem.of_status(405, f"{scope['method']} is not allowed here.", headers=allow)
            case HTTPException():
                return Problem.of_status(error.status_code, error.detail, headers=error.headers)
            case _:
                fields = scope.get(LOG_FIELDS, {})
                log.error(
                    "request_failed", **fields, method=scope["method"], path=scope["path"], exc_info=error
                )
                return Problem.of_status(500, "The service failed to answer; the failure is logged.")


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """The methods of all routes whose path is the request's: a single route knows only its own."""
    plain = [route for route in routes if isinstance(route, Route)]
    matching = [route for route in plain if route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})


async def _no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        raise Problem.of_status(404, "There is nothing at this path.")


def _refuse_unreadable_path(scope: Scope) -> None:
    """What is no UTF-8 would be read as replacement characters; no identifier holds control characters."""
    raw_path = scope.get("raw_path", b"")
    if b"%" not in raw_path:
        return
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise Problem.of_status(400, "The path is not UTF-8.") from None
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise Problem.of_status(400, "The path holds control characters.")
