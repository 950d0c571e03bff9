"""What the admin API of order-service has beyond that of the kit."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from service_kit.admin.routes import Why
from service_kit.http.access import Operator
from service_kit.http.admin_route import admin_route
from service_kit.http.inputs import STORABLE, given, json_body, query
from service_kit.postgres.audit import Cause

_ORDERS_MAX = 10_000


class FlowQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: Annotated[int, Meta(ge=1, le=3600)] = 900


class StuckQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    older_than_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = 30.0


OrderIdText = Annotated[str, Meta(min_length=1, max_length=255, pattern=STORABLE)]


class Reconcile(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order_ids: Annotated[list[OrderIdText], Meta(min_length=1, max_length=_ORDERS_MAX)] | UnsetType = UNSET


class Stuck(Protocol):
    async def list(self, *, older_than_seconds: float, limit: int) -> Mapping[str, object]: ...


def order_admin_routes(
    *,
    flow: Callable[[int], Awaitable[Mapping[str, object]]],
    stuck: Stuck,
    reconcile: Callable[[Sequence[str] | None, Cause], Awaitable[int]],
) -> list[Route]:
    """`flow` takes seconds; `reconcile` tells again of the orders given, or the oldest, and counts them."""

    async def get_flow(request: Request, _: Operator) -> object:
        return await flow(query(request, FlowQuery).seconds)

    async def get_stuck(request: Request, _: Operator) -> object:
        wanted = query(request, StuckQuery)
        return await stuck.list(older_than_seconds=wanted.older_than_seconds, limit=wanted.limit)

    async def post_reconcile(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, Reconcile)
        cause = Cause(operator=operator.name, reason=wanted.reason)
        return {"reemitted": await reconcile(given(wanted.order_ids), cause)}

    return [
        admin_route("GET", "/admin/flow", get_flow),
        admin_route("GET", "/admin/orders/stuck", get_stuck),
        admin_route("POST", "/admin/reconcile", post_reconcile),
    ]
