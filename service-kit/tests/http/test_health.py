import asyncio
from collections.abc import Awaitable, Callable

import httpx
from structlog.testing import capture_logs

from service_kit.errors import DatabaseUnavailable
from service_kit.http.health import Check, Readiness, health_routes
from service_kit.http.server import HttpServer

Serve = Callable[..., Awaitable[HttpServer]]


async def fine() -> str | None:
    return None


async def gone() -> str | None:
    return "broker: connection refused"


async def hanging() -> str | None:
    await asyncio.Event().wait()
    return None


async def unavailable() -> str | None:
    raise DatabaseUnavailable("database: connection refused")


async def broken() -> str | None:
    raise KeyError("internals")


async def get(serve: Serve, path: str, readiness: Readiness) -> httpx.Response:
    server = await serve(health_routes("order-service", readiness))
    async with httpx.AsyncClient(base_url=server.url) as client:
        return await client.get(path)


async def test_health_touches_no_dependency(serve: Serve) -> None:
    answer = await get(serve, "/health", Readiness({"database": hanging}))

    assert (answer.status_code, answer.json()) == (200, {"service": "order-service", "status": "ok"})


async def test_ready_has_an_entry_for_each_dependency(serve: Serve) -> None:
    answer = await get(serve, "/ready", Readiness({"database": fine, "broker": fine}))

    assert answer.status_code == 200
    assert answer.json() == {
        "service": "order-service",
        "status": "ready",
        "checks": {"database": {"ok": True, "detail": "ok"}, "broker": {"ok": True, "detail": "ok"}},
    }


async def test_each_dependency_that_fails_is_named_with_what_is_wrong(serve: Serve) -> None:
    checks: dict[str, Check] = {
        "database": unavailable,
        "broker": gone,
        "relay": hanging,
        "migrations": broken,
        "other": fine,
    }
    with capture_logs() as lines:
        answer = await get(serve, "/ready", Readiness(checks, timeout_seconds=0.05))

    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    details = {name: check["detail"] for name, check in answer.json()["checks"].items()}
    assert details == {
        "database": "database: connection refused",
        "broker": "broker: connection refused",
        "relay": "no answer within 0.05 s",
        "migrations": "the check itself failed; see the log",
        "other": "ok",
    }
    assert [line["event"] for line in lines] == ["readiness_check_failed"]


async def test_checks_run_together(serve: Serve) -> None:
    both = asyncio.Barrier(2)

    async def meets_the_other() -> str | None:
        await both.wait()
        return None

    answer = await get(serve, "/ready", Readiness({"one": meets_the_other, "two": meets_the_other}))

    assert answer.status_code == 200


async def test_a_draining_service_is_not_ready(serve: Serve) -> None:
    readiness = Readiness({"database": fine})
    readiness.drain()

    answer = await get(serve, "/ready", readiness)

    assert answer.status_code == 503
    assert answer.json()["checks"]["shutdown"] == {"ok": False, "detail": "draining"}
