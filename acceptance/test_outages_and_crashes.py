"""Whatever is taken away comes back, and nothing was lost or done twice meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from acceptance.deployment import Deployment, deployment
from acceptance.http_client import request
from acceptance.load import SteadyLoad
from acceptance.processes import ServiceProcess
from acceptance.proxy import TcpProxy
from service_kit.testing.eventually import eventually
from service_kit.testing.postgres_server import PostgresServer

OUTAGE_SECONDS = float(os.environ.get("ACCEPTANCE_OUTAGE_SECONDS", "8"))


@asynccontextmanager
async def steady_load(service: ServiceProcess, *, per_second: float = 100) -> AsyncIterator[SteadyLoad]:
    load = SteadyLoad(service.url, per_second=per_second, prefix="order")
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await running


async def assert_all_final_once(deployed: Deployment, load: SteadyLoad) -> None:
    orders = await deployed.order_rows("SELECT order_id, status, version FROM orders")
    assert {row["order_id"] for row in orders} >= set(load.accepted)
    assert {(row["status"], row["version"]) for row in orders} == {("done", 2)}
    states = await deployed.processor_rows("SELECT order_id, status, version FROM processing_states")
    assert {row["order_id"] for row in states} == {row["order_id"] for row in orders}
    for rows in (deployed.order_rows, deployed.processor_rows):
        assert (await rows("SELECT count(*) FROM dead_letter_queue"))[0][0] == 0
        assert (await rows("SELECT count(*) FROM retry_queue"))[0][0] == 0


@pytest.mark.timeout(OUTAGE_SECONDS + 180)
async def test_a_broker_outage_costs_time_and_never_an_order(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> None:
    target = urlsplit(rabbitmq_url)
    async with TcpProxy(target.hostname or "localhost", target.port or 5672) as proxy:
        through_proxy = target._replace(
            netloc=f"{target.username}:{target.password}@127.0.0.1:{proxy.port}"
        ).geturl()
        async with deployment(
            postgres_server, through_proxy, unique_name, tmp_path, cleanup_url=rabbitmq_url
        ) as deployed:
            service = await deployed.start_order_service()
            await deployed.start_processor_service()
            async with steady_load(service) as load:
                await eventually(lambda: len(load.accepted) > 50)
                await proxy.cut()
                accepted_before = len(load.accepted)
                await asyncio.sleep(OUTAGE_SECONDS)
                waiting = (await deployed.order_rows("SELECT count(*) FROM outbox"))[0][0]
                accepted_meanwhile = len(load.accepted) - accepted_before
                ready = await request("GET", f"{service.url}/ready")
                await proxy.restore()
            await deployed.settled(seconds=60)

            assert not load.refused and not load.broken
            assert accepted_meanwhile > 0 and waiting >= accepted_meanwhile - 50
            assert ready.status == 503 and not ready.json()["checks"]["broker"]["ok"]
            await assert_all_final_once(deployed, load)


@pytest.mark.timeout(OUTAGE_SECONDS + 180)
async def test_a_database_outage_is_answered_503_and_costs_time_only(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> None:
    async with deployment(postgres_server, rabbitmq_url, unique_name, tmp_path) as deployed:
        databases = {name: urlsplit(dsn) for name, dsn in _dsns(deployed).items()}
        host, port = databases["order"].hostname, databases["order"].port
        if not host or not port:
            pytest.skip("the test PostgreSQL listens on a socket only")
        async with TcpProxy(host, port) as proxy:
            through = {
                name: parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()
                for name, parts in databases.items()
            }
            service = await deployed.start_order_service(APP__DB_DSN=through["order"])
            await deployed.start_processor_service(APP__DB_DSN=through["processor"])
            async with steady_load(service) as load:
                await eventually(lambda: len(load.accepted) > 50)
                await proxy.cut()
                await eventually(lambda: load.refused[503] > 10)
                health = await request("GET", f"{service.url}/health")
                await proxy.restore()
                accepted = len(load.accepted)
                await eventually(lambda: len(load.accepted) > accepted + 50, within_seconds=30)
            await deployed.settled(seconds=60)

            assert set(load.refused) == {503} and not load.broken
            assert health.status == 200
            await assert_all_final_once(deployed, load)


@pytest.mark.parametrize("victim", ["order-service", "processor-service"])
async def test_a_killed_service_loses_nothing_and_does_nothing_twice(
    deployed: Deployment, victim: str
) -> None:
    order_service = await deployed.start_order_service()
    processor_service = await deployed.start_processor_service()
    process = order_service if victim == "order-service" else processor_service
    async with steady_load(order_service, per_second=300) as load:
        for _ in range(3):
            accepted = len(load.accepted)
            await eventually(lambda: len(load.accepted) > accepted + 100)  # noqa: B023
            process.kill()
            assert await process.wait() == -signal.SIGKILL
            await process.start()
    await deployed.settled()

    await assert_all_final_once(deployed, load)


@pytest.mark.parametrize("victim", ["order-service", "processor-service"])
async def test_sigterm_under_load_drains_and_exits_with_0(deployed: Deployment, victim: str) -> None:
    order_service = await deployed.start_order_service()
    processor_service = await deployed.start_processor_service()
    process = order_service if victim == "order-service" else processor_service
    async with steady_load(order_service, per_second=300) as load:
        await eventually(lambda: len(load.accepted) > 100)
        assert await process.stop() == 0
        await process.start()
    await deployed.settled()

    assert not set(load.refused) - {503}
    await assert_all_final_once(deployed, load)


def _dsns(deployed: Deployment) -> dict[str, str]:
    return {"order": deployed.order_dsn, "processor": deployed.processor_dsn}
