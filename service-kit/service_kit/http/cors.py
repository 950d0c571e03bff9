"""Which pages may call the API from a browser. Without any of this a browser lets none."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_ASKED_WITH = ("authorization", "content-type", "if-none-match", "last-event-id", "prefer", "traceparent")
_ANSWERED_WITH = (
    "etag",
    "idempotent-replayed",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
)


def for_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Pages of these origins may; no cookie is looked at, so that a key must come with each request."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_ASKED_WITH,
        expose_headers=_ANSWERED_WITH,
    )
