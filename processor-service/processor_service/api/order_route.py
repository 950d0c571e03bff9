"""`GET /admin/orders/{order_id}`: this service's part of an order's timeline."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from processor_service.api.problems import order_not_found, problem_of
from processor_service.application.ports import OrderHistories
from processor_service.domain.order import OrderId
from service_kit.errors import Unavailable
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role


def order_route(histories: OrderHistories) -> Route:
    async def get_order(request: Request) -> Response:
        order_id = OrderId(request.path_params["order_id"])
        try:
            history = await histories.find(order_id)
        except Unavailable as error:
            raise problem_of(error) from error
        if not history.steps:
            raise order_not_found(order_id)
        return Response(msgspec.json.encode(history), media_type="application/json")

    return Route("/admin/orders/{order_id}", Endpoint(get_order, Role.ADMIN), methods=["GET"])
