"""Both services on real servers, watched from outside: what they counted, logged and take."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from acceptance.deployment import Deployment
from acceptance.processes import ServiceProcess

REQUESTS = "http_request_duration_seconds"
OPERATOR = ("X-Operator", "fuzz")
Headers = tuple[tuple[str, str], ...]
# Endpoints made up by the fuzz may name anybody's host: what would go there is refused as private instead.
SEND_NOTHING = (
    """
    CREATE FUNCTION nobodys_url() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.url := 'https://127.0.0.1/'; RETURN NEW; END $$
    """,
    """
    CREATE TRIGGER nobodys_url BEFORE INSERT OR UPDATE ON webhook_endpoints
    FOR EACH ROW EXECUTE FUNCTION nobodys_url()
    """,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """`statuses`: requests by their status; `sockets`: connections that are open."""

    resident_mib: float
    sockets: int
    statuses: dict[int, int]


class Target:
    """One service as a target; `headers` open every route of it, and `open_to_all` some are without any."""

    def __init__(self, name: str, process: ServiceProcess, headers: Headers, *, open_to_all: bool) -> None:
        self.name = name
        self.open_to_all = open_to_all
        self.url = process.url
        self.headers = headers
        self._process = process

    async def openapi(self) -> Any:
        async with httpx.AsyncClient(timeout=30) as client:
            return (await client.get(f"{self.url}/openapi.json")).raise_for_status().json()

    async def measure(self) -> Measured:
        async with httpx.AsyncClient(timeout=30) as client:
            text = (await client.get(f"{self.url}/metrics")).raise_for_status().text
        statuses: dict[int, int] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{REQUESTS}_count":
                    status = int(sample.labels["status"])
                    statuses[status] = statuses.get(status, 0) + int(sample.value)
        process = psutil.Process(self._process.pid)
        sockets = len(process.net_connections(kind="tcp"))
        return Measured(process.memory_info().rss / 2**20, sockets, statuses)

    def defects(self) -> list[str]:
        """Lines of its log that tell of a failure that is nobody's fault but its own."""
        signs = ('"request_failed"', "Traceback", '"exception"', "Task exception was never retrieved")
        return [line[:2_000] for line in self._process.log_lines() if any(sign in line for sign in signs)]


@asynccontextmanager
async def targets(deployed: Deployment, given: Headers) -> AsyncIterator[list[Target]]:
    """Both services, all routes open to `Target.headers`; `given` headers come before those.

    A bearer token among the given becomes the admin key, and every route asks for it. Whatever the fuzz
    pauses consumes again within a second, so that orders become final.
    """
    for statement in SEND_NOTHING:
        await deployed.order_rows(statement)
    bearer = next((value for name, value in given if name.lower() == "authorization"), None)
    key = bearer.removeprefix("Bearer ") if bearer else secrets.token_hex(16)
    headers = given if bearer else (*given, ("Authorization", f"Bearer {key}"))
    auth = "keys" if bearer else "off"
    processor = await deployed.start_processor_service(APP__ADMIN_KEY=key, APP__AUTH=auth)
    order = await deployed.start_order_service(
        APP__ADMIN_KEY=key, APP__AUTH=auth, APP__PROCESSOR_URL=processor.url
    )
    found = [
        Target(process.command, process, headers, open_to_all=not bearer) for process in (order, processor)
    ]
    resuming = asyncio.create_task(_keep_consuming(found, key))
    try:
        yield found
    finally:
        resuming.cancel()
        with suppress(asyncio.CancelledError):
            await resuming


async def _keep_consuming(found: list[Target], key: str) -> None:
    headers = dict([OPERATOR, ("Authorization", f"Bearer {key}")])
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        while True:
            for target in found:
                with suppress(httpx.HTTPError):
                    await client.post(
                        f"{target.url}/admin/consuming/resume", json={"reason": "the fuzz goes on"}
                    )
            await asyncio.sleep(1)
