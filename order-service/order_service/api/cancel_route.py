"""`POST /orders/{order_id}/cancel`."""

from collections.abc import Callable
from random import Random

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.problems import invalid, order_not_cancellable, order_not_found, problem_of
from order_service.api.schemas import encode_order, parse_reason
from order_service.application.cancel_order import Cancellation, cancel_order
from order_service.application.ports import OrderReader, UnitOfWork
from order_service.domain.errors import InvalidOrder
from order_service.domain.order import OrderId
from service_kit.errors import Unavailable
from service_kit.http.application import SUBJECT
from service_kit.http.body import read_body
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role, principal_of
from service_kit.http.query import read_query
from service_kit.http.traced import span_of
from service_kit.observability.trace_context import continued_trace

_BODY_BYTES_MAX = 16_384


def cancel_route(
    unit_of_work: Callable[[], UnitOfWork],
    reader: OrderReader,
    on_cancelled: Callable[[OrderId], None],
    random: Random,
) -> Route:
    """`unit_of_work` makes one for each request; `on_cancelled` is told of each order that one cancelled."""

    async def post_cancel(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        traceparent = span_of(request) or continued_trace(request.headers.get("traceparent"), random)
        request.scope[SUBJECT] = ("order_id", order_id, traceparent)
        read_query(request.scope, {})
        raw = await read_body(request, bytes_max=_BODY_BYTES_MAX)
        try:
            customers = principal_of(request.scope).customers
            outcome = await cancel_order(
                order_id, parse_reason(raw), traceparent, unit_of_work(), reader, customers=customers
            )
        except InvalidOrder as error:
            raise invalid("The cancellation is not valid.", error.violations) from error
        except Unavailable as error:
            raise problem_of(error) from error
        if outcome is None:
            raise order_not_found(order_id)
        if outcome.cancellation is Cancellation.TOO_LATE:
            raise order_not_cancellable(outcome.order)
        if outcome.cancellation is Cancellation.CANCELLED:
            on_cancelled(order_id)
        repeated = outcome.cancellation is Cancellation.REPEATED
        headers = {"idempotent-replayed": "true"} if repeated else None
        return Response(encode_order(outcome.order), headers=headers, media_type="application/json")

    return Route("/orders/{order_id}/cancel", Endpoint(post_cancel, Role.WRITE), methods=["POST"])
