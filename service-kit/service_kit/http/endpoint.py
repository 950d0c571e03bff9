"""A handler as a raw ASGI application, behind the role that it asks for."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from service_kit.http.access import Access
from service_kit.http.principal import Role
from service_kit.http.rate_limits import HEADERS

ACCESS = "service_kit.access"
"""Of a request's scope: the Access of the application."""


NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""What is answered holds what strangers sent: no browser may take it for anything else than we say."""


class Endpoint:
    """`handle` as a route's endpoint, for those who have `role`; see `principal_of`.

    What it raises goes up to `application`, which knows every error. Starlette would wrap a plain function in
    an error handling of its own, twice for each request.
    """

    def __init__(self, handle: Callable[[Request], Awaitable[Response]], role: Role) -> None:
        self._handle = handle
        self.role = role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.role is not Role.ANYBODY:
            access: Access = scope[ACCESS]
            await access.admit(scope, self.role)
        response = await self._handle(Request(scope, receive, send))
        response.raw_headers.append(NO_SNIFFING)
        if HEADERS in scope:
            response.headers.update(scope[HEADERS])
        await response(scope, receive, send)


async def still_admitted(scope: Scope) -> bool:
    """Whether the key that a request came with is as good as it was then."""
    access: Access = scope[ACCESS]
    return await access.still_admits(scope)


def charge(scope: Scope, requests: int) -> None:
    """Count what a request brings as so many more, where there are limits."""
    access: Access = scope[ACCESS]
    access.charge(scope, requests)


def roles_of(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, Role]]:
    """Method, path and role of each route. Raises TypeError for one that has no role: it would be open."""
    for route in routes:
        if not isinstance(route, Route) or not isinstance(route.endpoint, Endpoint):
            raise TypeError(f"the route {getattr(route, 'path', route)} has no role: make it with Endpoint")
        for method in sorted(route.methods or ()):
            yield method, route.path, route.endpoint.role
