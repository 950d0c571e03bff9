"""A real `order-processor up` under traffic, with a Prometheus that looks at it."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from acceptance.processes import plain_environment
from infra.checks.engine import FOLDER, CheckFailed
from infra.checks.ports import free_ports
from infra.checks.prometheus import Prometheus, running_prometheus
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import (
    PostgresServer,
    fresh_database,
    given_postgres,
    postgres_for_tests,
)

PROGRAM = Path(sys.executable).with_name("order-processor")
POLICY = "infra.checks.switchable_policy:decide"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """While the file `stuck` is there, nothing is decided."""

    server: PostgresServer
    order_dsn: str
    processor_dsn: str
    api: httpx.AsyncClient
    process: asyncio.subprocess.Process
    stuck: Path
    prometheus: Prometheus

    async def sql(self, dsn: str, statement: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def running_system(folder: Path) -> AsyncIterator[System]:
    given = given_postgres()
    with postgres_for_tests(given[0] if given else None) as server:
        async with (
            fresh_database(server, "order-service", ORDER_MIGRATIONS.upgrade) as order_dsn,
            fresh_database(server, "processor-service", PROCESSOR_MIGRATIONS.upgrade) as processor_dsn,
        ):
            with free_ports(3) as free:
                order_port, processor_port, prometheus_port = free
            stuck = folder / "stuck"
            environ = {
                "APP__ORDER_DB_DSN": order_dsn,
                "APP__PROCESSOR_DB_DSN": processor_dsn,
                "APP__POLICY": POLICY,
                "STUCK_FILE": str(stuck),
            }
            targets = {"order-service": order_port, "processor-service": processor_port}
            async with (
                _up(folder, targets, environ) as process,
                running_prometheus(folder / "prometheus", prometheus_port, targets) as prometheus,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{order_port}", timeout=30) as api,
            ):
                yield System(
                    server=server,
                    order_dsn=order_dsn,
                    processor_dsn=processor_dsn,
                    api=api,
                    process=process,
                    stuck=stuck,
                    prometheus=prometheus,
                )


@asynccontextmanager
async def _up(
    folder: Path, ports: Mapping[str, int], environ: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    log_path = folder / "up.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(PROGRAM, "up", "--ephemeral"),
            *("--order-port", str(ports["order-service"])),
            *("--processor-port", str(ports["processor-service"])),
            cwd=FOLDER.parent,  # where the policy's module is found
            env=plain_environment() | dict(environ),
            stdout=log,
            stderr=log,
        )

    async def serving() -> bool:
        if process.returncode is not None:
            raise CheckFailed(f"order-processor up ended: {log_path.read_text()}")
        return "Serving" in log_path.read_text()

    try:
        await eventually(serving, within_seconds=60)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def traffic(api: httpx.AsyncClient) -> None:
    """Some 40 orders a second: most succeed, some fail, a few are repeated, not found or refused."""
    for number in itertools.count():
        sku = "potato" if number % 10 == 0 else "laptop"
        order = {"order_id": f"o-{number}", "customer_id": "c"}
        body = {**order, "items": [{"sku": sku, "quantity": 1, "price": 1.5}]}
        requests: list[Awaitable[object]] = [api.post("/orders", json=body)]
        if number % 20 == 0:
            requests += [
                api.post("/orders", json=body),
                api.post("/orders", content="{"),
                api.get(f"/orders/o-{number - 10}"),
                api.get("/orders/nothing"),
                api.get("/ready"),
            ]
        sending = asyncio.gather(*requests, return_exceptions=True)
        await asyncio.sleep(0.02)
        if number % 50 == 0:  # what hangs is waited for now and then, so that it cannot pile up
            await sending
