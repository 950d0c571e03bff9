"""`GET /orders/{order_id}/timeline`."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.problems import order_not_found, problem_of
from order_service.api.schemas import encode_timeline
from order_service.application.order_timeline import order_timeline
from order_service.application.ports import OrderHistories, Processor
from order_service.domain.order import OrderId
from service_kit.errors import Unavailable
from service_kit.http.application import SUBJECT
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role, principal_of


def timeline_route(histories: OrderHistories, processor: Processor) -> Route:
    """For whoever may read the order."""

    async def get_timeline(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        request.scope[SUBJECT] = ("order_id", order_id, request.headers.get("traceparent"))
        try:
            timeline = await order_timeline(order_id, histories, processor)
        except Unavailable as error:
            raise problem_of(error) from error
        if timeline is None or not principal_of(request.scope).may_see(timeline.order.customer_id):
            raise order_not_found(order_id)
        return Response(encode_timeline(timeline), media_type="application/json")

    return Route("/orders/{order_id}/timeline", Endpoint(get_timeline, Role.READ), methods=["GET"])
