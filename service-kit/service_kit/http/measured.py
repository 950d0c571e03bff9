"""The duration of every request, by method, route and status."""

from collections.abc import Callable
from time import perf_counter

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEASURED_AS = "service_kit.measured_as"
"""Of a request's scope: what it is counted as instead of its route, such as `/orders?wait`."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_WENT_AWAY = 499


class Measured:
    """Observes `duration`, in seconds, from the request's head to the end of the answer.

    The route is its template (`/orders/{order_id}`), what the handler calls it, or `unmatched`; methods that
    HTTP does not know are `OTHER`: clients cannot make new label values. A request that was never answered
    has the status 499.
    """

    def __init__(self, app: ASGIApp, duration: Histogram) -> None:
        self._app = app
        self._duration = duration
        # Looking a label set up costs more than observing: each is looked up once.
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _CLIENT_WENT_AWAY

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = perf_counter()
        try:
            await self._app(scope, receive, noting_send)
        finally:
            self._observe(scope, status, perf_counter() - started)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
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
