"""`POST /orders`, `GET /orders/{order_id}` and its timeline."""

import asyncio
from functools import partial
from random import Random
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.problems import customer_not_allowed, order_conflict, order_not_found, problem_of
from order_service.api.schemas import encode_order, encode_order_with_items, parse_order
from order_service.api.waiting import NO_WAIT, Wait, asked_wait
from order_service.application.create_orders import CreateOutcome, Creation
from order_service.application.get_order import get_order_with_items, get_orders
from order_service.application.ports import CreateOrder, FinalOrders, OrderIntake, OrderReader
from order_service.domain.errors import InvalidOrder
from order_service.domain.order import Order, OrderId, OrderSummary, Status
from service_kit.errors import Unavailable
from service_kit.group_commit import GroupCommit, Overloaded
from service_kit.http.application import SUBJECT
from service_kit.http.body import read_body
from service_kit.http.conditional import is_known
from service_kit.http.endpoint import Endpoint
from service_kit.http.json_answer import JsonAnswer
from service_kit.http.measured import MEASURED_AS
from service_kit.http.principal import Role, principal_of
from service_kit.http.query import read_query
from service_kit.http.traced import span_of
from service_kit.observability.trace_context import continued_trace


def order_routes(
    intake: GroupCommit[CreateOrder, CreateOutcome],
    orders: OrderIntake,
    reader: OrderReader,
    final: FinalOrders,
    random: Random,
) -> list[Route]:
    """The routes of one order; `intake` commits concurrent requests together."""
    # Concurrent lookups share a statement: a connection of the pool for each would cost more than the rest.
    lookups: GroupCommit[OrderId, OrderSummary | None] = GroupCommit(partial(get_orders, orders=reader))

    async def post_order(request: Request) -> Response:
        if intake.full:  # before the body is read: refusing must cost less than accepting
            raise problem_of(Overloaded())
        traceparent, prefer = _headers(request)
        asks = prefer is not None or request.scope["query_string"]
        wait = asked_wait(request, prefer) if asks else NO_WAIT
        raw = await read_body(request)
        try:
            traceparent = span_of(request) or continued_trace(traceparent, random)
            order = parse_order(raw)
            accepted_at = asyncio.get_running_loop().time()
            request.scope[SUBJECT] = ("order_id", order.order_id, traceparent)
            if not principal_of(request.scope).may_see(order.customer_id):
                raise customer_not_allowed(order.customer_id)
            command = CreateOrder(order=order, traceparent=traceparent, accepted_at=accepted_at)
            if not wait.seconds:
                return _created(await intake.submit(command))
            request.scope[MEASURED_AS] = "/orders?wait"
            return await _final_or_created(command, wait)
        except (InvalidOrder, Overloaded, Unavailable) as error:
            raise problem_of(error) from error

    async def _final_or_created(command: CreateOrder, wait: Wait) -> Response:
        # Expected before it is there, so that its end cannot be missed.
        with final.expecting(command.order.order_id) as its_end:
            outcome = await intake.submit(command)
            if outcome.creation is Creation.CONFLICT or outcome.order.status is not Status.PENDING:
                return _created(outcome, wait)
            await asyncio.wait({its_end}, timeout=wait.seconds)
            return _created(outcome, wait, its_end.result() if its_end.done() else None)

    async def get_order_by_id(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        traceparent = span_of(request) or request.headers.get("traceparent")
        request.scope[SUBJECT] = ("order_id", order_id, traceparent)
        expands = "expand" in read_query(request.scope, {"expand": _expand})
        try:
            order = await (get_order_with_items(order_id, orders) if expands else lookups.submit(order_id))
        except (Overloaded, Unavailable) as error:
            raise problem_of(error) from error
        if order is None or not principal_of(request.scope).may_see(order.customer_id):
            raise order_not_found(order_id)
        etag = f'W/"{order.version}"'  # weak: a release may show more of the same version
        if is_known(request.headers, etag):
            return Response(status_code=304, headers={"etag": etag})
        body = encode_order_with_items(order) if isinstance(order, Order) else encode_order(order)
        return JsonAnswer(body, headers=[(b"etag", etag.encode())])

    return [
        Route("/orders", Endpoint(post_order, Role.WRITE), methods=["POST"]),
        Route("/orders/{order_id}", Endpoint(get_order_by_id, Role.READ), methods=["GET"]),
    ]


def _headers(request: Request) -> tuple[str | None, str | None]:
    """`traceparent` and `prefer`, in one pass over all headers: each order pays for it."""
    traceparent = prefer = None
    for name, value in request.scope["headers"]:
        if name == b"traceparent":
            traceparent = value.decode("latin-1")
        elif name == b"prefer":
            prefer = value.decode("latin-1") if prefer is None else f"{prefer},{value.decode('latin-1')}"
    return traceparent, prefer


def _created(outcome: CreateOutcome, wait: Wait = NO_WAIT, final: OrderSummary | None = None) -> Response:
    order = outcome.order
    if outcome.creation is Creation.CONFLICT:
        raise order_conflict(order.order_id)
    headers = [(b"location", _location(order.order_id).encode())]
    if outcome.creation is Creation.REPLAYED:
        headers.append((b"idempotent-replayed", b"true"))
    if wait.preferred:
        headers.append((b"preference-applied", b"wait=%d" % wait.seconds))
    return JsonAnswer(encode_order(final or order), 201, headers)


def _expand(text: str) -> str:
    if text != "items":
        raise ValueError("must be items")
    return text


def _location(order_id: str) -> str:
    name = quote(order_id, safe="")
    # Clients resolve "." and ".." in a path, and would end elsewhere.
    return f"/orders/{name.replace('.', '%2E') if name in ('.', '..') else name}"
