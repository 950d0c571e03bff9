"""The requests of the admin API. Changes are sent once only: whoever asked decides whether to ask again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from order_processor_client.admin_models import (
    ApiKey,
    ApiKeyPage,
    AuditEntry,
    AuditPage,
    Consuming,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroups,
    DeadLetterInFull,
    DeadLetterPage,
    Flow,
    Forecast,
    MadeApiKey,
    Readiness,
    Rehearsal,
    Replay,
    ReplayPage,
    Ruleset,
    Selection,
    ServiceState,
    StuckOrders,
)
from order_processor_client.request import Page, Request, Service, T, json_as, json_bytes, paged, path, query

ENTRIES_PER_PAGE = 100


class _Discarded(msgspec.Struct):
    discarded: int


class _Reemitted(msgspec.Struct):
    reemitted: int


@dataclass(frozen=True, slots=True)
class AdminRequests:
    """Of one service: most are the same for both."""

    service: Service

    def readiness(self) -> Request[Readiness]:
        """What is not ready says so with 503."""
        return replace(self._get(Readiness, "/ready"), also=503)

    def state(self) -> Request[ServiceState]:
        return self._get(ServiceState, "/admin/state")

    def dead_letters(
        self, only: DeadLetterFilter, *, after: int | None = None, limit: int = ENTRIES_PER_PAGE
    ) -> Request[DeadLetterPage]:
        wanted = query(**msgspec.structs.asdict(only), after=after, limit=limit)
        return self._get(DeadLetterPage, "/admin/dead-letters", wanted)

    def dead_letter(self, letter_id: int) -> Request[DeadLetterInFull]:
        return self._get(DeadLetterInFull, path("admin", "dead-letters", letter_id))

    def dead_letter_groups(self) -> Request[DeadLetterGroups]:
        return self._get(DeadLetterGroups, "/admin/dead-letters/groups")

    def forecast(self, selection: Selection) -> Request[Forecast]:
        return self._post(Forecast, "/admin/dead-letters/forecast", _selected(selection), repeatable=True)

    def discard(self, selection: Selection, reason: str) -> Request[int]:
        body = _selected(selection) | {"reason": reason}
        return self._count(_Discarded, "discarded", "/admin/dead-letters/discard", body)

    def start_replay(
        self,
        selection: Selection,
        reason: str,
        *,
        per_second: float | None = None,
        failure_share_max: float | None = None,
    ) -> Request[Replay]:
        given = {"per_second": per_second, "failure_share_max": failure_share_max}
        body = _selected(selection) | {"reason": reason} | _without_none(given)
        return self._post(Replay, "/admin/replays", body)

    def replays(self, *, after: int | None = None, limit: int = ENTRIES_PER_PAGE) -> Request[ReplayPage]:
        return self._get(ReplayPage, "/admin/replays", query(after=after, limit=limit))

    def replay(self, replay_id: int) -> Request[Replay]:
        return self._get(Replay, path("admin", "replays", replay_id))

    def change_replay(self, replay_id: int, change: str, reason: str) -> Request[Replay]:
        return self._post(Replay, path("admin", "replays", replay_id, change), {"reason": reason})

    def change_consuming(self, change: str, reason: str) -> Request[Consuming]:
        return self._post(Consuming, path("admin", "consuming", change), {"reason": reason})

    def audit(self, *, after: int | None = None, limit: int = ENTRIES_PER_PAGE) -> Request[AuditPage]:
        return self._get(AuditPage, "/admin/audit", query(after=after, limit=limit))

    def keys(self, *, after: int | None = None, limit: int = ENTRIES_PER_PAGE) -> Request[ApiKeyPage]:
        return self._get(ApiKeyPage, "/admin/keys", query(after=after, limit=limit))

    def create_key(
        self,
        name: str,
        roles: Sequence[str],
        reason: str,
        *,
        customers: Sequence[str] | None = None,
        days: float | None = None,
    ) -> Request[MadeApiKey]:
        body = {"name": name, "roles": roles, "reason": reason}
        return self._post(
            MadeApiKey, "/admin/keys", body | _without_none({"customers": customers, "days": days})
        )

    def rotate_key(self, key_id: int, overlap_hours: float, reason: str) -> Request[MadeApiKey]:
        body = {"overlap_hours": overlap_hours, "reason": reason}
        return self._post(MadeApiKey, path("admin", "keys", key_id, "rotate"), body)

    def revoke_key(self, key_id: int, reason: str) -> Request[ApiKey]:
        return self._post(ApiKey, path("admin", "keys", key_id, "revoke"), {"reason": reason})

    def flow(self, seconds: int) -> Request[Flow]:
        return self._get(Flow, "/admin/flow", query(seconds=seconds))

    def stuck_orders(self, limit: int, older_than_seconds: float) -> Request[StuckOrders]:
        wanted = query(limit=limit, older_than_seconds=older_than_seconds)
        return self._get(StuckOrders, "/admin/orders/stuck", wanted)

    def reconcile(self, reason: str, order_ids: Sequence[str] | None) -> Request[int]:
        body = {"reason": reason} | _without_none({"order_ids": order_ids})
        return self._count(_Reemitted, "reemitted", "/admin/reconcile", body)

    def order_trace(self, order_id: str) -> Request[dict[str, Any]]:
        return self._get(dict[str, Any], path("admin", "orders", order_id))

    def rules(self) -> Request[Ruleset]:
        return self._get(Ruleset, "/admin/rules")

    def check_rules(self, toml: str) -> Request[Ruleset]:
        return self._post(Ruleset, "/admin/rules/check", {"toml": toml}, repeatable=True)

    def rehearse_rules(self, toml: str, last: int) -> Request[Rehearsal]:
        body = {"toml": toml, "last": last}
        return self._post(Rehearsal, "/admin/rules/rehearse", body, repeatable=True)

    def reload_rules(self, reason: str) -> Request[Ruleset]:
        return self._post(Ruleset, "/admin/rules/reload", {"reason": reason})

    def _get(self, type_: type[T], where: str, wanted: dict[str, str] | None = None) -> Request[T]:
        return Request(
            method="GET", service=self.service, path=where, query=wanted or {}, parse=json_as(type_)
        )

    def _post(self, type_: type[T], where: str, body: Any, *, repeatable: bool = False) -> Request[T]:
        return Request(
            method="POST",
            service=self.service,
            path=where,
            body=json_bytes(body),
            parse=json_as(type_),
            repeatable=repeatable,
        )

    def _count(self, type_: type[msgspec.Struct], name: str, where: str, body: Any) -> Request[int]:
        parse = json_as(type_)
        return Request(
            method="POST",
            service=self.service,
            path=where,
            body=json_bytes(body),
            parse=lambda response: int(getattr(parse(response), name)),
            repeatable=False,
        )


def dead_letter_pages(first: Request[DeadLetterPage]) -> Request[Page[DeadLetter]]:
    return paged(first, lambda page: page.dead_letters, after=lambda letter: letter.id)


def replay_pages(first: Request[ReplayPage]) -> Request[Page[Replay]]:
    return paged(first, lambda page: page.replays, after=lambda replay: replay.id)


def key_pages(first: Request[ApiKeyPage]) -> Request[Page[ApiKey]]:
    return paged(first, lambda page: page.keys, after=lambda key: key.id)


def audit_pages(first: Request[AuditPage]) -> Request[Page[AuditEntry]]:
    return paged(first, lambda page: page.entries, after=lambda entry: entry.id)


def _selected(selection: Selection) -> dict[str, Any]:
    if isinstance(selection, DeadLetterFilter):
        return {"filter": selection}
    return {"ids": list(selection)}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
