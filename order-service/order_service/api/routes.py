"""`POST /orders`, `GET /orders/{order_id}` and its timeline."""

import asyncio
from random import Random
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.problems import order_conflict, order_not_found, problem_of
from order_service.api.schemas import encode_order, parse_order
from order_service.application.create_orders import CreateOutcome, Creation
from order_service.application.get_order import get_order
from order_service.application.ports import CreateOrder, OrderIntake
from order_service.domain.errors import InvalidOrder
from order_service.domain.order import OrderId
from service_kit.errors import Unavailable
from service_kit.group_commit import GroupCommit, Overloaded
from service_kit.http.application import LOG_FIELDS
from service_kit.http.body import read_body
from service_kit.http.endpoint import Endpoint
from service_kit.http.traced import span_of
from service_kit.observability.subjects import about
from service_kit.observability.trace_context import continued_trace

JSON = "application/json"


def order_routes(
    intake: GroupCommit[CreateOrder, CreateOutcome], orders: OrderIntake, random: Random
) -> list[Route]:
    """The routes of the API; `intake` commits concurrent requests together."""

    async def post_order(request: Request) -> Response:
        if intake.full:  # before the body is read: refusing must cost less than accepting
            raise problem_of(Overloaded())
        raw = await read_body(request)
        try:
            traceparent = span_of(request) or continued_trace(request.headers.get("traceparent"), random)
            order = parse_order(raw)
            accepted_at = asyncio.get_running_loop().time()
            request.scope[LOG_FIELDS] = about("order_id", order.order_id, traceparent)
            command = CreateOrder(order=order, traceparent=traceparent, accepted_at=accepted_at)
            outcome = await intake.submit(command)
        except (InvalidOrder, Overloaded, Unavailable) as error:
            raise problem_of(error) from error
        return _created(outcome)

    async def get_order_by_id(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        traceparent = span_of(request) or request.headers.get("traceparent")
        request.scope[LOG_FIELDS] = about("order_id", order_id, traceparent)
        try:
            order = await get_order(order_id, orders)
        except Unavailable as error:
            raise problem_of(error) from error
        if order is None:
            raise order_not_found(order_id)
        return Response(encode_order(order), media_type=JSON)

    return [
        Route("/orders", Endpoint(post_order), methods=["POST"]),
        Route("/orders/{order_id}", Endpoint(get_order_by_id), methods=["GET"]),
    ]


def _created(outcome: CreateOutcome) -> Response:
    order = outcome.order
    if outcome.creation is Creation.CONFLICT:
        raise order_conflict(order.order_id)
    headers = {"location": _location(order.order_id)}
    if outcome.creation is Creation.REPLAYED:
        headers["idempotent-replayed"] = "true"
    return Response(encode_order(order), 201, headers=headers, media_type=JSON)


def _location(order_id: str) -> str:
    name = quote(order_id, safe="")
    # Clients resolve "." and ".." in a path, and would end elsewhere.
    return f"/orders/{name.replace('.', '%2E') if name in ('.', '..') else name}"
