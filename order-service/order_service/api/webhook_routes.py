"""`/webhooks/endpoints`: who is told of orders, and what came of it. For operators."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from order_service.application.webhooks import new_secret, shown_secret
from order_service.domain.event import EventType
from service_kit.http.access import Operator
from service_kit.http.admin_route import admin_route
from service_kit.http.inputs import STORABLE, PageSize, RowId, given, json_body, query, row_id
from service_kit.http.problems import FieldError, Problem, invalid_input
from service_kit.postgres.audit import Cause

_NEWEST = 2**63 - 1
_REPLAYED_MAX = 10_000

Url = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[!-~]+$")]
Description = Annotated[str, Meta(max_length=500, pattern=STORABLE)]
EventTypes = Annotated[list[EventType], Meta(max_length=4)]
CustomerIds = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=255, pattern=STORABLE)]], Meta(max_length=1000)
]
Reason = Annotated[str, Meta(max_length=1000, pattern=STORABLE)]
Status = Literal["pending", "delivered", "failed"]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Reason = ""
    """Kept with the change in the audit log."""


class NewEndpoint(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Url
    description: Description = ""
    event_types: EventTypes = []
    customer_ids: CustomerIds = []


class ChangedEndpoint(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Url | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    event_types: EventTypes | UnsetType = UNSET
    customer_ids: CustomerIds | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Rotation(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    overlap_seconds: Annotated[float, Meta(ge=0, le=604_800)] = 86_400.0


class Replay(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    delivery_ids: Annotated[list[RowId], Meta(min_length=1, max_length=_REPLAYED_MAX)] | UnsetType = UNSET
    status: Literal["delivered", "failed"] | UnsetType = UNSET
    since: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET


class EndpointPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: PageSize = 50
    after: RowId = _NEWEST


class DeliveryPage(EndpointPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Status | UnsetType = UNSET


Row = Mapping[str, object]


class Webhooks(Protocol):
    async def create(
        self,
        url: str,
        description: str,
        event_types: Sequence[str],
        customer_ids: Sequence[str],
        secret: bytes,
        cause: Cause,
    ) -> Row | None: ...

    async def list(self, *, before: int, limit: int) -> Sequence[Row]: ...

    async def get(self, id: int) -> Row | None: ...

    async def change(self, id: int, changes: Mapping[str, object], cause: Cause) -> Row | None: ...

    async def delete(self, id: int, cause: Cause) -> bool: ...

    async def rotate(self, id: int, secret: bytes, overlap_seconds: float, cause: Cause) -> Row | None: ...

    async def deliveries(self, id: int, *, status: str | None, before: int, limit: int) -> Sequence[Row]: ...

    async def replay(
        self, id: int, ids: Sequence[int] | None, status: str | None, since: object, limit: int, cause: Cause
    ) -> int: ...


def webhook_routes(
    webhooks: Webhooks,
    *,
    allow_private: bool,
    refusal: Callable[[str], Awaitable[str | None]],
) -> list[Route]:
    """`refusal` says why nothing may be sent to a URL, if so; http is allowed with `allow_private` alone."""

    async def require_allowed(url: str) -> None:
        problem = _url_problem(url, allow_http=allow_private) or await refusal(url)
        if problem:
            raise invalid_input("body", FieldError(loc=("body", "url"), msg=problem))

    async def create(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, NewEndpoint)
        await require_allowed(wanted.url)
        secret = new_secret()
        endpoint = await webhooks.create(
            wanted.url,
            wanted.description,
            wanted.event_types,
            wanted.customer_ids,
            secret,
            _cause(operator, wanted),
        )
        if endpoint is None:
            raise Problem(409, "TooManyEndpoints", "There are as many endpoints as there may be: 1000.")
        return {**endpoint, "secret": shown_secret(secret)}

    async def list_endpoints(request: Request, _: Operator) -> object:
        page = query(request, EndpointPage)
        return _page("endpoints", await webhooks.list(before=page.after, limit=page.limit + 1), page.limit)

    async def get(request: Request, _: Operator) -> object:
        return _found(request, await webhooks.get(_id(request)))

    async def change(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, ChangedEndpoint)
        if wanted.url is not UNSET:
            await require_allowed(wanted.url)
        changes = {
            name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET
        }
        changes.pop("reason")
        return _found(request, await webhooks.change(_id(request), changes, _cause(operator, wanted)))

    async def delete(request: Request, operator: Operator) -> object:
        cause = _cause(operator, await json_body(request, _Body))
        return {"deleted": _found(request, await webhooks.delete(_id(request), cause) or None)}

    async def rotate(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, Rotation)
        secret = new_secret()
        rotated = await webhooks.rotate(
            _id(request), secret, wanted.overlap_seconds, _cause(operator, wanted)
        )
        return {**_found(request, rotated), "secret": shown_secret(secret)}

    async def deliveries(request: Request, _: Operator) -> object:
        page = query(request, DeliveryPage)
        id = _id(request)
        _found(request, await webhooks.get(id))
        found = await webhooks.deliveries(
            id, status=given(page.status), before=page.after, limit=page.limit + 1
        )
        shown = [{**row, "body": msgspec.Raw(str(row["body"]).encode())} for row in found]
        return _page("deliveries", shown, page.limit)

    async def replay(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, Replay)
        id = _id(request)
        _found(request, await webhooks.get(id))
        cause = _cause(operator, wanted)
        replayed = await webhooks.replay(
            id,
            given(wanted.delivery_ids),
            given(wanted.status),
            given(wanted.since),
            _REPLAYED_MAX,
            cause,
        )
        return {"replayed": replayed}

    one = "/webhooks/endpoints/{id}"
    return [
        admin_route("POST", "/webhooks/endpoints", create, status=201),
        admin_route("GET", "/webhooks/endpoints", list_endpoints),
        admin_route("GET", one, get),
        admin_route("PATCH", one, change),
        admin_route("DELETE", one, delete),
        admin_route("POST", f"{one}/rotate", rotate),
        admin_route("GET", f"{one}/deliveries", deliveries),
        admin_route("POST", f"{one}/replay", replay),
    ]


def _url_problem(url: str, *, allow_http: bool) -> str | None:
    try:
        parts = urlsplit(url)
        port_is_possible = parts.port != 0
    except ValueError:
        return "is not a URL"
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        return "must begin with https://"
    if not parts.hostname or not port_is_possible:
        return "must name a host"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must be without user, password and fragment"
    return None


def _cause(operator: Operator, body: _Body) -> Cause:
    return Cause(operator=operator.name, reason=body.reason)


def _id(request: Request) -> int:
    return row_id(request.path_params, "id") or 0


def _found(request: Request, row: Any) -> Any:
    if row is None:
        raise Problem(404, "EndpointNotFound", f"There is no endpoint {request.path_params['id']!r}.")
    return row


def _page(name: str, rows: Sequence[Row], limit: int) -> Mapping[str, object]:
    return {name: rows[:limit], "has_more": len(rows) > limit}
