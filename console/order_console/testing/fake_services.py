"""Both services as the console sees them: HTTP answers that a test puts in, and what was asked for."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NOW = "2026-11-24T14:00:00.250000Z"

STATE: dict[str, Any] = {
    "service": "order-service",
    "instance": "order-service-1",
    "version": "0.1.0",
    "started_at": "2026-11-24T12:00:00Z",
    "now": NOW,
    "checks": {"database": {"ok": True, "detail": "ok"}, "broker": {"ok": True, "detail": "ok"}},
    "consuming": {"paused": False, "by": None, "reason": None, "since": None},
    "backlog": {
        "outbox_pending": 1204,
        "outbox_oldest_seconds": 3.5,
        "retries_pending": 2,
        "retries_next_due_at": NOW,
        "dead_letters": 3,
        "queue_messages": 17,
        "inbox_keys": 99000,
    },
}
LETTER: dict[str, Any] = {
    "id": 7,
    "source": "consumer",
    "event_type": "order.created",
    "event_key": "malformed:c15eb4",
    "subject": "ord-1",
    "reason": "JSON is malformed: invalid character (byte 4)",
    "group": "g1",
    "attempts": 1,
    "times_seen": 1,
    "moved_at": NOW,
    "last_seen_at": NOW,
    "size": 16,
    "replay_id": None,
}
LETTER_IN_FULL: dict[str, Any] = {
    **LETTER,
    "message_id": "m-1",
    "headers": {"x-source": "a test"},
    "body": "this is not JSON",
    "body_base64": "dGhpcyBpcyBub3QgSlNPTg==",
    "first_failed_at": NOW,
}
GROUP: dict[str, Any] = {
    "group": "g1",
    "event_type": "order.created",
    "reason": "JSON is malformed: invalid character (byte …)",
    "count": 3,
    "first_at": NOW,
    "last_at": NOW,
    "example_id": 7,
}
FORECAST: dict[str, Any] = {
    "total": 3,
    "will_run": 1,
    "already_processed": 1,
    "will_fail_again": 1,
    "examples": [{"id": 7, "forecast": "will_fail_again", "why": "JSON is malformed"}],
}
REPLAY: dict[str, Any] = {
    "id": 5,
    "state": "running",
    "total": 1000,
    "handled": 400,
    "skipped": 10,
    "failed": 1,
    "remaining": 589,
    "step": 100,
    "per_second": 100.0,
    "failure_share_max": 0.1,
    "operator": "Anna",
    "reason": "the warehouse is back",
    "created_at": NOW,
    "finished_at": None,
    "stopped_because": None,
    "forecast": FORECAST,
}
ORDER: dict[str, Any] = {
    "order_id": "ord-1",
    "customer_id": "cust-1",
    "status": "done",
    "total_amount": 1250.5,
    "version": 2,
    "fail_reason": None,
    "created_at": NOW,
    "updated_at": NOW,
}
TIMELINE: dict[str, Any] = {
    "order": ORDER,
    "steps": [
        {
            "step": "accepted",
            "at": "2026-11-24T14:00:00Z",
            "by": "order-service-1",
            "service": "order",
            "detail": {},
        },
        {"step": "committed", "at": "2026-11-24T14:00:00.004Z", "by": "order-service-1", "service": "order"},
        {
            "step": "decided",
            "at": "2026-11-24T14:00:00.049Z",
            "by": "processor-service-1",
            "service": "processor",
            "detail": {"rule": "embargo", "sku": "teapot", "ruleset_version": "r-1", "outcome": "failed"},
        },
    ],
    "problems": [],
    "complete": False,
}
RULES: dict[str, Any] = {
    "policy": "rules",
    "version": "r-1",
    "source": "built in",
    "loaded_at": NOW,
    "rules": [{"skus": ["potato"], "fail_reason": "Too fatty food"}],
    "success_rate": 1.0,
    "problem": None,
}
REHEARSAL: dict[str, Any] = {
    "version": "r-2",
    "orders": 10000,
    "unchanged": 9990,
    "changed": 10,
    "changes": [
        {
            "from": "done",
            "to": "failed: Too wet",
            "count": 10,
            "examples": [{"order_id": "ord-1", "rule": 1, "sku": "water"}],
        }
    ],
}
AUDIT: dict[str, Any] = {
    "id": 3,
    "at": NOW,
    "operator": "Anna",
    "action": "replay.start",
    "target": "replay 5",
    "reason": "the warehouse is back",
    "details": {"total": 1000},
}

KEY: dict[str, Any] = {
    "id": 7,
    "hint": "ork_7Gd1",
    "name": "the shop",
    "roles": ["orders:read", "orders:write"],
    "customers": ["cust-1", "cust-2"],
    "state": "usable",
    "created_at": NOW,
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": NOW,
    "replaces": None,
}
WHOLE_KEY = "ork_the-whole-key-that-is-told-once"


def samples(count: int, *, later: int = 0) -> list[dict[str, Any]]:
    """One a second, the newest of the last second before NOW, or of some seconds later."""
    newest = datetime.fromisoformat(NOW).replace(microsecond=0) + timedelta(seconds=later - 1)
    return [
        {
            "at": (newest - timedelta(seconds=count + later - 1 - number)).isoformat(),
            "seconds": 1,
            "accepted": 100 + number,
            "done": 90,
            "failed": 10,
            "latency_ms": {"p50": 12.0, "p99": 48.5},
        }
        for number in range(count + later)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class FakeService:
    """`answers` by method and path; an int is the status of a problem, and so is a document with one."""

    answers: dict[str, Any]
    asked: list[Asked] = field(default_factory=list)

    def routes(self) -> list[Route]:
        return [Route("/{path:path}", self._answer, methods=["GET", "POST"])]

    def last(self, method: str, path: str) -> Asked:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)][-1]

    def count(self, path: str) -> int:
        return sum(asked.path == path for asked in self.asked)

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        path = unquote(request.scope["raw_path"].decode())
        asked = Asked(
            method=request.method,
            path=path,
            query=dict(request.query_params),
            headers=dict(request.headers),
            body=msgspec.json.decode(raw) if raw else None,
        )
        self.asked.append(asked)
        answer = self.answers.get(f"{request.method} {path}", 404)
        if isinstance(answer, int):
            answer = {"status": answer, "error_type": "Refused", "detail": f"refused: {path}"}
        if "error_type" in answer:
            problem = msgspec.json.encode(answer)
            return Response(problem, answer["status"], media_type="application/problem+json")
        return Response(msgspec.json.encode(answer), media_type="application/json")


def order_service() -> FakeService:
    return FakeService(
        {
            **_common("order-service"),
            "GET /admin/flow": {"now": NOW, "samples": samples(30)},
            "GET /orders": {"data": [ORDER], "has_more": False},
            "GET /orders/ord-1": ORDER,
            "GET /orders/ord-1/timeline": TIMELINE,
            "GET /admin/orders/stuck": {
                "orders": [
                    {"order_id": "ord-9", "pending_seconds": 4000.0, "why": "its event waits", "since": NOW}
                ],
                "total": 1,
            },
            "POST /admin/reconcile": {"reemitted": 4},
        }
    )


def processor_service() -> FakeService:
    return FakeService(
        {
            **_common("processor-service"),
            "GET /admin/rules": RULES,
            "POST /admin/rules/check": RULES,
            "POST /admin/rules/rehearse": REHEARSAL,
            "POST /admin/rules/reload": RULES,
        }
    )


def _common(name: str) -> dict[str, Any]:
    state = deepcopy(dict(STATE)) | {"service": name}
    return {
        "GET /admin/state": state,
        "GET /admin/dead-letters/groups": {"groups": [GROUP], "total": 3},
        "GET /admin/dead-letters": {"dead_letters": [LETTER], "has_more": True},
        "GET /admin/dead-letters/7": LETTER_IN_FULL,
        "POST /admin/dead-letters/forecast": FORECAST,
        "POST /admin/dead-letters/discard": {"discarded": 3},
        "POST /admin/replays": REPLAY,
        "GET /admin/replays": {"replays": [REPLAY], "has_more": False},
        "GET /admin/replays/5": REPLAY,
        "POST /admin/replays/5/pause": REPLAY | {"state": "paused"},
        "POST /admin/consuming/pause": state["consuming"] | {"paused": True},
        "POST /admin/consuming/resume": state["consuming"],
        "GET /admin/audit": {"entries": [AUDIT], "has_more": False},
        "GET /admin/keys": {"keys": [KEY], "has_more": False},
        "POST /admin/keys": {"key": KEY, "secret": WHOLE_KEY},
        "POST /admin/keys/7/rotate": {"key": KEY | {"id": 8, "replaces": 7}, "secret": WHOLE_KEY},
        "POST /admin/keys/7/revoke": KEY | {"state": "revoked", "revoked_at": NOW},
    }
