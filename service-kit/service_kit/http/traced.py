"""Requests as spans, by OpenTelemetry's semantic conventions for HTTP servers."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.http.application import SUBJECT
from service_kit.http.measured import METHODS
from service_kit.tracing.tracer import Kind, Span, Tracer

_TRACEPARENT = "service_kit.traceparent"
_UNTRACED = ("/health", "/ready", "/metrics", "/admin/", "/console")


class Traced:
    """Answers each request within a span, whose parent is the `traceparent` of the caller.

    Whether it is recorded is decided here, for all that follows from the request. Probes and metrics, which
    machines ask for all the time, have no span, and neither has what operators and their page ask for.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        span = self._start(scope)
        scope[_TRACEPARENT] = span.traceparent
        if span.recorded:
            await self._answer(span, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _start(self, scope: Scope) -> Span:
        method = scope["method"]
        return self._tracer.start(
            _name(method),
            Kind.SERVER,
            parent=Headers(scope=scope).get("traceparent"),
            attributes={
                "http.request.method": method if method in METHODS else "_OTHER",
                "url.scheme": scope["scheme"],
                "url.path": scope["raw_path"].decode("latin-1"),
            },
        )

    async def _answer(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
            if not status:
                span.failed("unanswered", "the client went away")
            elif status >= 500:
                span.failed(str(status))
        except BaseException as error:
            span.failed(type(error).__name__, str(error))
            raise
        finally:
            _describe(span, scope, status)
            span.end()


def span_of(request: Request) -> str | None:
    """The context of the request's span, for all that follows from it; None when requests have no spans."""
    traceparent: str | None = request.scope.get(_TRACEPARENT)
    return traceparent


def _describe(span: Span, scope: Scope, status: int) -> None:
    """What is known only after the answer."""
    attributes: dict[str, str | int] = {}
    if SUBJECT in scope:
        field, subject, _ = scope[SUBJECT]
        attributes[field] = subject
    if route := getattr(scope.get("route"), "path", None):
        attributes["http.route"] = route
        span.rename(f"{_name(scope['method'])} {route}")
    if query := scope["query_string"]:
        attributes["url.query"] = query.decode("latin-1")
    if status:
        attributes["http.response.status_code"] = status
    span.add(attributes)


def _name(method: str) -> str:
    return method if method in METHODS else "HTTP"
