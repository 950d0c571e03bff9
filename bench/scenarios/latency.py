"""From the POST to the committed final state: under light, usual and heavy load, and of one order alone."""

import asyncio
import time

import msgspec

from acceptance.http_client import HttpConnection
from bench.generator import load
from bench.scenarios.scenario import Bench, Figures, Scenario
from bench.servers import connected
from bench.stage import Stage, stage
from bench.statistics import percentiles
from bench.watch import final_latencies, pending

_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 0.0005


async def run(bench: Bench) -> Figures:
    figures: Figures = {"rates": {}}
    async with stage(bench.servers) as staged:
        await staged.start(staged.order, staged.processor)
        bench.tell("one order at a time")
        figures["idle"] = percentiles(await _idle(staged, bench.lengths.idle_orders))
        if await bench.servers.keeps_commit_times():
            for rate, seconds in bench.lengths.latency_seconds.items():
                bench.tell(f"{rate} orders/s")
                figures["rates"][str(rate)] = await _at(staged, rate, seconds)
    return figures


async def _at(staged: Stage, rate: int, seconds: float) -> Figures:
    times = staged.servers.folder / f"times-{staged.name}"
    prefix = f"l{rate}"
    result = await load(
        staged.spec(
            connections=64,
            seconds=seconds,
            rate=float(rate),
            prefix=prefix,
            times_file=str(times),
        )
    )
    async with connected(staged.orders_dsn) as connection:
        async with asyncio.timeout(60):
            while await pending(connection):
                await asyncio.sleep(0.1)
        latencies = await final_latencies(connection, prefix, times)
    warm = int(rate * 1.0)
    return {
        **percentiles(latencies[warm:]),
        "slowest_seconds": max(latencies),
        "orders": len(latencies),
        "answer": dict(result.percentiles),
    }


async def _idle(staged: Stage, orders: int) -> list[float]:
    """As a client sees it: POST, then GET again and again until the order is final."""
    client = HttpConnection(staged.order.url)
    latencies = []
    for number in range(orders + 3):
        await asyncio.sleep(_PAUSE_SECONDS)
        order = {
            "order_id": f"idle-{number}",
            "customer_id": "c",
            "items": [{"sku": "laptop", "quantity": 1, "price": 1200.5}],
        }
        sent_at = time.perf_counter()
        await client.request("POST", "/orders", msgspec.json.encode(order))
        while (await client.request("GET", f"/orders/idle-{number}")).json()["status"] == "pending":
            await asyncio.sleep(_LOOK_SECONDS)
        latencies.append(time.perf_counter() - sent_at)
    client.close()
    return latencies[3:]


SCENARIO = Scenario(
    name="latency",
    story="POST to final state at 50, 200 and 1,000 orders/s, and of a single order in an idle system",
    run=run,
    seconds=lambda lengths: (
        10 + sum(seconds + 2 for seconds in lengths.latency_seconds.values()) + 0.13 * lengths.idle_orders
    ),
)
