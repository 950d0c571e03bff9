"""The admin API that both services have."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from service_kit.admin.consuming_switch import ConsumingSwitch
from service_kit.admin.forecasts import Forecasts
from service_kit.admin.letters import discard_letters, find_letter, letter_groups, list_letters
from service_kit.admin.replays import NewReplay, Replays, no_such_replay
from service_kit.admin.selection import LetterFilter, Selection, require_one_way, selected_ids
from service_kit.admin.state import ServiceState
from service_kit.http.access import Operator
from service_kit.http.admin_route import admin_route
from service_kit.http.inputs import STORABLE, PageSize, RowId, json_body, query, row_id
from service_kit.http.problems import Problem
from service_kit.postgres.audit import Cause, audit_entries
from service_kit.postgres.database import Database

_NEWEST = 2**63 - 1

Reason = Annotated[str, Meta(min_length=1, max_length=1000, pattern=rf"(?s)^(?=.*\S){STORABLE[1:]}")]


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after`: the last id of the page before; the pages go from the newest to the oldest."""

    limit: PageSize = 50
    after: RowId = _NEWEST


class LetterPage(LetterFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: PageSize = 50
    after: RowId = _NEWEST


class GroupPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: PageSize = 100


class Why(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every change needs in its body."""

    reason: Reason


class Discard(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Reason


class StartReplay(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Reason
    per_second: Annotated[float, Meta(ge=0.01, le=10_000)] = 100.0
    failure_share_max: Annotated[float, Meta(ge=0, le=1)] = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminParts:
    """What the routes work with."""

    database: Database
    state: ServiceState
    forecasts: Forecasts
    replays: Replays
    switch: ConsumingSwitch


Answer = Callable[[Request, Operator], Awaitable[object]]


def admin_routes(parts: AdminParts) -> list[Route]:
    def get(path: str, answer: Answer) -> Route:
        return admin_route("GET", path, answer)

    def post(path: str, answer: Answer, status: int = 200) -> Route:
        return admin_route("POST", path, answer, status=status)

    async def state(_: Request, __: Operator) -> object:
        return await parts.state.now()

    async def audit(request: Request, _: Operator) -> object:
        page = query(request, Page)
        entries = await audit_entries(parts.database, before=page.after, limit=page.limit + 1)
        return _page("entries", entries, page.limit)

    return [
        get("/admin/state", state),
        get("/admin/audit", audit),
        *_letter_routes(get, post, parts),
        *_replay_routes(get, post, parts.replays),
        *_consuming_routes(post, parts.switch),
    ]


def _letter_routes(
    get: Callable[[str, Answer], Route], post: Callable[[str, Answer], Route], parts: AdminParts
) -> list[Route]:
    async def letters(request: Request, _: Operator) -> object:
        page = query(request, LetterPage)
        found = await list_letters(parts.database, page, before=page.after, limit=page.limit + 1)
        return _page("dead_letters", found, page.limit)

    async def groups(request: Request, _: Operator) -> object:
        return await letter_groups(parts.database, limit=query(request, GroupPage).limit)

    async def letter(request: Request, _: Operator) -> object:
        letter_id = row_id(request.path_params, "id")
        found = await find_letter(parts.database, letter_id) if letter_id else None
        if found is None:
            detail = f"There is no dead letter {request.path_params['id']}."
            raise Problem(404, "DeadLetterNotFound", detail)
        return found

    async def forecast(request: Request, _: Operator) -> object:
        selection = await json_body(request, Selection)
        require_one_way(selection)
        async with parts.database.connection() as connection:
            ids = await selected_ids(connection, selection)
        return await parts.forecasts.summary(ids)

    async def discard(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, Discard)
        require_one_way(wanted)
        selection = Selection(ids=wanted.ids, filter=wanted.filter)
        cause = Cause(operator=operator.name, reason=wanted.reason)
        return {"discarded": await discard_letters(parts.database, selection, cause)}

    return [
        get("/admin/dead-letters", letters),
        get("/admin/dead-letters/groups", groups),
        post("/admin/dead-letters/forecast", forecast),
        post("/admin/dead-letters/discard", discard),
        get("/admin/dead-letters/{id}", letter),
    ]


def _replay_routes(
    get: Callable[[str, Answer], Route], post: Callable[..., Route], replays: Replays
) -> list[Route]:
    async def start(request: Request, operator: Operator) -> object:
        wanted = await json_body(request, StartReplay)
        require_one_way(wanted)
        new = NewReplay(
            selection=Selection(ids=wanted.ids, filter=wanted.filter),
            cause=Cause(operator=operator.name, reason=wanted.reason),
            per_second=wanted.per_second,
            failure_share_max=wanted.failure_share_max,
        )
        return await replays.create(new)

    async def list_all(request: Request, _: Operator) -> object:
        page = query(request, Page)
        found = await replays.list(before=page.after, limit=page.limit + 1)
        return _page("replays", found, page.limit)

    async def replay(request: Request, _: Operator) -> object:
        replay_id = row_id(request.path_params, "id")
        found = await replays.get(replay_id) if replay_id else None
        if found is None:
            raise no_such_replay(request.path_params["id"])
        return found

    def steering(how: str) -> Answer:
        async def steer(request: Request, operator: Operator) -> object:
            why = await json_body(request, Why)
            replay_id = row_id(request.path_params, "id")
            if replay_id is None:
                raise no_such_replay(request.path_params["id"])
            cause = Cause(operator=operator.name, reason=why.reason)
            return await replays.steer(replay_id, how, cause)

        return steer

    return [
        post("/admin/replays", start, 201),
        get("/admin/replays", list_all),
        get("/admin/replays/{id}", replay),
        *(post(f"/admin/replays/{{id}}/{how}", steering(how)) for how in ("pause", "resume", "cancel")),
    ]


def _consuming_routes(post: Callable[[str, Answer], Route], switch: ConsumingSwitch) -> list[Route]:
    def switching(paused: bool) -> Answer:
        async def switch_it(request: Request, operator: Operator) -> object:
            why = await json_body(request, Why)
            return await switch.set(paused=paused, cause=Cause(operator=operator.name, reason=why.reason))

        return switch_it

    return [
        post("/admin/consuming/pause", switching(True)),
        post("/admin/consuming/resume", switching(False)),
    ]


def _page(name: str, rows: Sequence[object], limit: int) -> dict[str, object]:
    """`rows` were asked for with one more than `limit`: it tells whether there are more."""
    return {name: rows[:limit], "has_more": len(rows) > limit}
