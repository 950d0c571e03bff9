"""`/admin/rules`: what is in force, and what another ruleset would do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from processor_service.api.problems import problem_of
from processor_service.application.ports import PastOrders, Rules, RulesInForce, RulesNotReloaded
from processor_service.application.read_ruleset import InvalidRules, read_ruleset
from processor_service.application.rehearse import rehearse
from processor_service.domain.order import Order
from processor_service.domain.rules import Rule, Ruleset
from service_kit.admin.routes import Why
from service_kit.errors import Unavailable
from service_kit.http.access import operator_of
from service_kit.http.endpoint import Endpoint
from service_kit.http.inputs import json_body
from service_kit.http.principal import Role
from service_kit.postgres.audit import Cause

log = structlog.stdlib.get_logger()


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    toml: str


class _Rehearsal(msgspec.Struct, forbid_unknown_fields=True):
    toml: str
    last: Annotated[int, Meta(ge=1, le=100_000)] = 10_000


Audit = Callable[[Cause, str, str], Awaitable[None]]
"""Notes who does what (`rules.reload`) to what, and why."""


def rules_routes(
    rules: Rules,
    past: PastOrders,
    read: Callable[[bytes], Order],
    *,
    success_rate: float,
    audit: Audit,
) -> list[Route]:
    """The routes; a ruleset that is checked or rehearsed has the `success_rate` of the settings."""

    async def get_rules(request: Request) -> Response:
        return _json(_shown(rules.in_force()))

    async def check(request: Request) -> Response:
        operator_of(request)
        body = await json_body(request, _Text)
        ruleset = await _ruleset(body.toml)
        return _json({"version": ruleset.version, **_content(ruleset.rules, ruleset.success_rate)})

    async def rehearse_rules(request: Request) -> Response:
        operator_of(request)
        body = await json_body(request, _Rehearsal)
        ruleset = await _ruleset(body.toml)
        try:
            rehearsal = await rehearse(ruleset, past, last=body.last, read=read)
        except Unavailable as error:
            raise problem_of(error) from error
        return _json(rehearsal.report())

    async def reload(request: Request) -> Response:
        operator = operator_of(request)
        body = await json_body(request, Why)
        try:
            await audit(Cause(operator=operator.name, reason=body.reason), "rules.reload", "rules")
            await rules.reload()
        except (InvalidRules, RulesNotReloaded, Unavailable) as error:
            raise problem_of(error) from error
        log.info("rules_reload_asked_for", operator=operator.name, reason=body.reason)
        return _json(_shown(rules.in_force()))

    async def _ruleset(toml: str) -> Ruleset:
        try:
            content = toml.encode("utf-8", "surrogatepass")
            return await asyncio.to_thread(read_ruleset, content, success_rate)
        except InvalidRules as error:
            raise problem_of(error) from error

    return [
        Route("/admin/rules", Endpoint(get_rules, Role.ADMIN), methods=["GET"]),
        Route("/admin/rules/check", Endpoint(check, Role.ADMIN), methods=["POST"]),
        Route("/admin/rules/rehearse", Endpoint(rehearse_rules, Role.ADMIN), methods=["POST"]),
        Route("/admin/rules/reload", Endpoint(reload, Role.ADMIN), methods=["POST"]),
    ]


def _shown(rules: RulesInForce) -> dict[str, object]:
    return {
        "policy": rules.policy,
        "version": rules.version,
        "source": rules.source,
        "loaded_at": rules.loaded_at,
        **_content(rules.rules, rules.success_rate),
        "problem": rules.problem,
    }


def _content(rules: Sequence[Rule], success_rate: float | None) -> dict[str, object]:
    shown = [{"skus": sorted(rule.skus), "fail_reason": rule.fail_reason} for rule in rules]
    return {"rules": shown, "success_rate": success_rate}


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
