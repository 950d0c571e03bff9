"""The duration of every request, by method, route and status."""

from collections.abc import Callable

from prometheus_client import Histogram
from starlette.types import Scope

MEASURED_AS = "service_kit.measured_as"
"""Of a request's scope: what it is counted as instead of its route, such as `/orders?wait`."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

NEVER_ANSWERED = 499
"""The status of a request whose client went away."""


class Durations:
    """Observes `duration`, in seconds, from the request's head to the end of the answer.

    The route is its template (`/orders/{order_id}`), what the handler calls it, or `unmatched`; methods that
    HTTP does not know are `OTHER`: clients cannot make new label values.
    """

    def __init__(self, duration: Histogram) -> None:
        self._duration = duration
        # Looking a label set up costs more than observing: each is looked up once.
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        route: str = scope.get(MEASURED_AS, "") or getattr(scope.get("route"), "path", "unmatched")
        key = (scope["method"], route, status)
        observe = self._observers.get(key)
        if observe is None:
            observe = self._observer(*key)
            if key[0] in METHODS:
                self._observers[key] = observe
        observe(seconds)

    def _observer(self, method: str, route: str, status: int) -> Callable[[float], None]:
        known_method = method if method in METHODS else "OTHER"
        return self._duration.labels(known_method, route, str(status)).observe
