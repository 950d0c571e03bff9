"""`GET /events` and `GET /orders/{order_id}/events`: server-sent events (WHATWG HTML, 9.2)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope, Send

from order_service.api.problems import order_not_found, problem_of
from order_service.application.order_events import (
    End,
    EventFilter,
    EventsForgotten,
    OrderEvents,
    StreamEnded,
    Told,
    UnknownEvent,
    check_resumable,
    follow_events,
    follow_order,
)
from order_service.application.ports import OrderReader
from order_service.domain.event import EventType
from order_service.domain.order import OrderId, Status, text_violations
from service_kit.errors import Unavailable
from service_kit.http.application import SUBJECT
from service_kit.http.endpoint import Endpoint, still_admitted
from service_kit.http.principal import Role, principal_of
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.http.query import read_query

HEARTBEAT_SECONDS = 15.0

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": still here\n\n"


def events_routes(
    events: OrderEvents,
    reader: OrderReader,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> list[Route]:
    async def get_events(request: Request) -> Response:
        wanted = _wanted(request)
        after = _last_event_id(request)
        _refuse_if_full(events)
        try:
            if after is not None:
                await check_resumable(after, events)
        except EventsForgotten:
            detail = "What followed that event is not kept any more. Read the list, and stream from now on."
            raise Problem(410, "EventsForgotten", detail) from None
        except UnknownEvent:
            raise _invalid_id("is no id of an event of this log") from None
        except Unavailable as error:
            raise problem_of(error) from error
        following = follow_events(wanted, after, events, heartbeat_seconds=heartbeat_seconds)
        return stream(request, following, lambda told: told.event.position)

    async def get_order_events(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        request.scope[SUBJECT] = ("order_id", order_id, request.headers.get("traceparent"))
        read_query(request.scope, {})
        after = _last_event_id(request) or 0
        _refuse_if_full(events)
        try:
            order = (await reader.summaries([order_id])).get(order_id)
        except Unavailable as error:
            raise problem_of(error) from error
        if order is None or not principal_of(request.scope).may_see(order.customer_id):
            raise order_not_found(order_id)
        if order.status is not Status.PENDING and order.version <= after:
            return Response(status_code=204)  # which tells a browser not to come again
        following = follow_order(
            order_id,
            after,
            events,
            reader,
            may_see=principal_of(request.scope).may_see,
            heartbeat_seconds=heartbeat_seconds,
        )
        return stream(request, following, lambda told: told.event.order.version)

    def stream(
        request: Request, following: AsyncGenerator[Sequence[Told], None], id_of: Callable[[Told], int]
    ) -> Response:
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type="text/event-stream")
        admitted = _admitted_only(following, request.scope, check_seconds=heartbeat_seconds)
        return _EventStream(_frames(admitted, id_of), headers=_HEADERS, media_type="text/event-stream")

    return [
        Route("/events", Endpoint(get_events, Role.READ), methods=["GET"]),
        Route("/orders/{order_id}/events", Endpoint(get_order_events, Role.READ), methods=["GET"]),
    ]


class _EventStream(StreamingResponse):
    """Ends what it streams when the client goes away, also in the middle of sending."""

    def __init__(self, frames: AsyncGenerator[bytes, None], **options: Any) -> None:
        super().__init__(frames, **options)
        self._frames = frames

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._frames):
            await super().stream_response(send)


async def _admitted_only(
    following: AsyncGenerator[Sequence[Told], None], scope: Scope, *, check_seconds: float
) -> AsyncGenerator[Sequence[Told], None]:
    """The same for as long as the key is good that it was asked for with. Raises StreamEnded."""
    clock = asyncio.get_running_loop().time
    check_at = clock() + check_seconds
    async with aclosing(following):
        async for arrived in following:
            if clock() >= check_at:
                if not await still_admitted(scope):
                    raise StreamEnded(End.KEY_NOT_VALID)
                check_at = clock() + check_seconds
            yield arrived


async def _frames(
    following: AsyncGenerator[Sequence[Told], None], id_of: Callable[[Told], int]
) -> AsyncGenerator[bytes, None]:
    yield _RETRY
    try:
        async with aclosing(following):
            async for arrived in following:
                yield b"".join(_frame(told, id_of(told)) for told in arrived) or _HEARTBEAT
    except StreamEnded as ended:
        yield b'event: end\ndata: {"reason":"%s"}\n\n' % ended.end.encode()
    except Unavailable:
        yield b'event: end\ndata: {"reason":"unavailable"}\n\n'


def _frame(told: Told, id: int) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (id, told.event.type.encode(), told.body)


def _refuse_if_full(events: OrderEvents) -> None:
    if events.full:
        detail = "As many streams are open as this process serves. Try again, or poll."
        raise Problem(503, "TooManyStreams", detail, retry_after_seconds=10)


def _last_event_id(request: Request) -> int | None:
    given = request.headers.get("last-event-id")
    if not given:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise _invalid_id("must be the id of an event")
    return int(given)


def _invalid_id(words: str) -> Problem:
    return invalid_input("header", FieldError(loc=("header", "Last-Event-ID"), msg=words))


def _wanted(request: Request) -> EventFilter:
    given = read_query(request.scope, {"customer_id": _text, "type": _types})
    return EventFilter(
        customer_id=given.get("customer_id"),
        types=given.get("type"),
        may_see=principal_of(request.scope).may_see,
    )


def _text(text: str) -> str:
    for violation in text_violations((), text):
        raise ValueError(violation.message)
    return text


def _types(text: str) -> frozenset[EventType]:
    try:
        return frozenset(EventType(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"must be some of {', '.join(EventType)}, with commas between") from None
