"""`/health` says that the process lives, `/ready` whether it can do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.errors import ServiceKitError
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role

log = structlog.stdlib.get_logger()

Check = Callable[[], Awaitable[str | None]]
"""Returns None when the dependency can be used, else what is wrong, in words for an operator."""


class CheckResult(msgspec.Struct, frozen=True):
    ok: bool
    detail: str = "ok"


class Readiness:
    """The named checks, run together; each has `timeout_seconds`.

    While draining, the service is not ready whatever the checks say.
    """

    def __init__(self, checks: Mapping[str, Check], *, timeout_seconds: float = 2.0) -> None:
        self._checks = dict(checks)
        self._timeout_seconds = timeout_seconds
        self._draining = False

    def drain(self) -> None:
        self._draining = True

    async def results(self) -> dict[str, CheckResult]:
        answers = await asyncio.gather(*(self._result(name, check) for name, check in self._checks.items()))
        results = dict(zip(self._checks, answers, strict=True))
        return results | {"shutdown": CheckResult(False, "draining")} if self._draining else results

    async def _result(self, name: str, check: Check) -> CheckResult:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                problem = await check()
        except TimeoutError:
            problem = f"no answer within {self._timeout_seconds:g} s"
        except ServiceKitError as error:
            problem = str(error)
        except Exception as error:
            log.error("readiness_check_failed", check=name, exc_info=error)
            problem = "the check itself failed; see the log"
        return CheckResult(True) if problem is None else CheckResult(False, problem)


def health_routes(service_name: str, readiness: Readiness) -> list[Route]:
    """`GET /health`, which touches no dependency, and `GET /ready`."""
    alive = msgspec.json.encode({"service": service_name, "status": "ok"})

    async def health(_: Request) -> Response:
        return Response(alive, media_type="application/json")

    async def ready(_: Request) -> Response:
        results = await readiness.results()
        is_ready = all(result.ok for result in results.values())
        body = {"service": service_name, "status": "ready" if is_ready else "not ready", "checks": results}
        return Response(msgspec.json.encode(body), 200 if is_ready else 503, media_type="application/json")

    # Probes come without keys.
    return [
        Route("/health", Endpoint(health, Role.ANYBODY), methods=["GET"]),
        Route("/ready", Endpoint(ready, Role.ANYBODY), methods=["GET"]),
    ]
