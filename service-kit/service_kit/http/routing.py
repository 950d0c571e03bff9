"""Which route answers a request."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from service_kit.http.problems import Problem

Routes = Sequence[BaseRoute]


class RouteTable:
    """Finds the first route that matches; a path without parameters is found before all that have some.

    In place of Starlette's router, which tries one regular expression after the other, adds two calls to each
    request, and would redirect between `/orders` and `/orders/`.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]
        self._plain: dict[tuple[str, str], Route] = {}
        for route in self._routes:
            if not route.param_convertors:
                for method in route.methods or ():
                    self._plain.setdefault((method, route.path), route)

    def find(self, scope: Scope) -> Route:
        """The route, which is noted in `scope` with what its path holds. Raises Problem 404 or 405."""
        plain = self._plain.get((scope["method"], scope["path"]))
        if plain is not None:
            scope["route"] = plain
            return plain
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.NONE:
                continue
            if match is Match.FULL or not allowed:
                scope["route"] = route
                scope.update(found)
            if match is Match.FULL:
                return route
            allowed.update(route.methods or ())
        if allowed:
            headers = {"allow": ", ".join(sorted(allowed))}
            raise Problem.of_status(405, f"{scope['method']} is not allowed here.", headers=headers)
        raise Problem.of_status(404, "There is nothing at this path.")
