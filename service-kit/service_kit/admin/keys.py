"""API keys over the admin API: made, looked at, rotated, revoked."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from service_kit.admin.routes import Page, Reason, Why
from service_kit.guard import Guard
from service_kit.http.access import Operator
from service_kit.http.admin_route import admin_route
from service_kit.http.inputs import CustomerId, json_body, query, row_id
from service_kit.http.principal import CUSTOMERS_MAX, Role
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.postgres.api_keys import KeyNotFound, KeyNotPossible, KeyNotUsable, MadeKey, NewKey
from service_kit.postgres.audit import Cause

KeyName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$")]
Days = Annotated[float, Meta(gt=0, le=3650)]


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: KeyName
    roles: Annotated[list[Literal["orders:read", "orders:write", "admin"]], Meta(min_length=1, max_length=3)]
    customers: Annotated[list[CustomerId], Meta(min_length=1, max_length=CUSTOMERS_MAX)] | None = None
    days: Days | None = None
    reason: Reason


class RotateKey(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The old key is good for `overlap_hours` more."""

    overlap_hours: Annotated[float, Meta(ge=0, le=2160)] = 24.0


def key_routes(guard: Guard) -> list[Route]:
    async def list_keys(request: Request, _: Operator) -> object:
        page = query(request, Page)
        found = await guard.keys.list(before=page.after, limit=page.limit + 1)
        return {"keys": found[: page.limit], "has_more": len(found) > page.limit}

    async def create(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, CreateKey)
        roles = [Role(role) for role in wanted.roles]
        new = NewKey(name=wanted.name, roles=roles, customers=wanted.customers, days=wanted.days)
        try:
            made = await guard.keys.create(new, Cause(operator=operator.name, reason=wanted.reason))
        except KeyNotPossible as error:
            fault = FieldError(loc=("body", "customers"), msg=str(error))
            raise invalid_input("body", fault) from None
        return _made(made)

    async def rotate(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, RotateKey)
        cause, overlap = Cause(operator=operator.name, reason=wanted.reason), wanted.overlap_hours
        try:
            made = await guard.keys.rotate(_id(request), overlap=timedelta(hours=overlap), cause=cause)
        except KeyNotFound:
            raise _no_such_key(request) from None
        except KeyNotUsable as error:
            raise Problem(409, "KeyNotUsable", str(error)) from None
        guard.ring.forget()
        return _made(made)

    async def revoke(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, Why)
        try:
            row = await guard.keys.revoke(_id(request), Cause(operator=operator.name, reason=wanted.reason))
        except KeyNotFound:
            raise _no_such_key(request) from None
        guard.ring.forget()
        return row

    return [
        admin_route("GET", "/admin/keys", list_keys),
        admin_route("POST", "/admin/keys", create, status=201),
        admin_route("POST", "/admin/keys/{id}/rotate", rotate, status=201),
        admin_route("POST", "/admin/keys/{id}/revoke", revoke),
    ]


def _made(made: MadeKey) -> Mapping[str, object]:
    return {"key": made.row, "secret": made.secret}


def _id(request: Request) -> int:
    key_id = row_id(request.path_params, "id")
    if key_id is None:
        raise _no_such_key(request)
    return key_id


def _no_such_key(request: Request) -> Problem:
    return Problem(404, "KeyNotFound", f"There is no key {request.path_params['id']}.")
