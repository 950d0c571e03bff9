"""A handler as a raw ASGI application."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Endpoint:
    """`handle` as a route's endpoint: what it raises goes up to `application`, which knows every error.

    Starlette would wrap a plain function in an error handling of its own, twice for each request.
    """

    def __init__(self, handle: Callable[[Request], Awaitable[Response]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handle(Request(scope, receive, send))
        await response(scope, receive, send)
