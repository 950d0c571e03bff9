"""A service's routes as one ASGI application, in which every error is a problem."""

from collections.abc import Awaitable
from time import perf_counter
from urllib.parse import unquote_to_bytes

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.http.access import Access
from service_kit.http.endpoint import ACCESS
from service_kit.http.measured import NEVER_ANSWERED, Durations
from service_kit.http.problems import Problem, problem_response
from service_kit.http.routing import Routes, RouteTable
from service_kit.observability.metrics import Metrics
from service_kit.observability.subjects import about

log = structlog.stdlib.get_logger()


SUBJECT = "service_kit.subject"
"""Of a request's scope: what it is about, as lines and spans say it: field, name and traceparent."""


NOBODY = Access(None)


def application(routes: Routes, *, metrics: Metrics, access: Access = NOBODY) -> ASGIApp:
    """An application that answers every request, at worst with a problem 500, and measures each.

    `access` lets requests in to the routes that have a role.
    """
    return _Application(RouteTable(routes), Durations(metrics.http_request_duration), access)


class _Application:
    """Finds the route, lets in or refuses, answers and measures, in one call: each more has a price."""

    def __init__(self, routes: RouteTable, durations: Durations, access: Access) -> None:
        self._routes = routes
        self._durations = durations
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = NEVER_ANSWERED

        def noting_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        started = perf_counter()
        scope[ACCESS] = self._access
        try:
            _refuse_unreadable_path(scope)
            await self._routes.find(scope).app(scope, receive, noting_send)
        except ClientDisconnect:
            return
        except Exception as error:
            if status != NEVER_ANSWERED:
                raise  # too late for a problem: the server logs it and cuts the connection
            await problem_response(_problem(error, scope), scope)(scope, receive, noting_send)
        finally:
            self._durations.observe(scope, status, perf_counter() - started)


def _problem(error: Exception, scope: Scope) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            return Problem.of_status(error.status_code, error.detail, headers=error.headers)
        case _:
            fields = about(*scope[SUBJECT]) if SUBJECT in scope else {}
            log.error("request_failed", **fields, method=scope["method"], path=scope["path"], exc_info=error)
            return Problem.of_status(500, "The service failed to answer; the failure is logged.")


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
