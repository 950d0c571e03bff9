"""`GET /orders`: the list, page by page."""

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.problems import problem_of
from order_service.api.schemas import encode_page
from order_service.application.list_orders import PageOfOrders, UnknownCursor, list_orders
from order_service.application.ports import OrderReader
from order_service.domain.order import OrderId, Status, text_violations
from service_kit.errors import Unavailable
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role, principal_of
from service_kit.http.problems import FieldError, invalid_input
from service_kit.http.query import moment, read_query

LIMIT_DEFAULT, LIMIT_MAX = 20, 100


def list_route(reader: OrderReader) -> Route:
    async def get_orders(request: Request) -> Response:
        asked = _asked(request)
        try:
            page = await list_orders(asked, reader, customers=principal_of(request.scope).customers)
        except UnknownCursor as error:
            name = "starting_after" if asked.starting_after is not None else "ending_before"
            raise invalid_input("query", FieldError(loc=("query", name), msg=str(error))) from error
        except Unavailable as error:
            raise problem_of(error) from error
        return Response(encode_page(page.orders, has_more=page.has_more), media_type="application/json")

    return Route("/orders", Endpoint(get_orders, Role.READ), methods=["GET"])


def _asked(request: Request) -> PageOfOrders:
    given = read_query(request.scope, _READERS)
    if "starting_after" in given and "ending_before" in given:
        message = "cannot be given together with starting_after"
        raise invalid_input("query", FieldError(loc=("query", "ending_before"), msg=message))
    return PageOfOrders(**{"limit": LIMIT_DEFAULT, **given})


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise ValueError(f"must be from 1 to {LIMIT_MAX}")
    return int(text)


def _text(text: str) -> str:
    for violation in text_violations((), text):
        raise ValueError(violation.message)
    return text


def _order_id(text: str) -> OrderId:
    return OrderId(_text(text))


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(Status)}") from None


_READERS = {
    "customer_id": _text,
    "status": _status,
    "created_from": moment,
    "created_to": moment,
    "limit": _limit,
    "starting_after": _order_id,
    "ending_before": _order_id,
}
