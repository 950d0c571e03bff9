"""`make observability-test`: the dashboard has data, and alerts fire, in a real Prometheus.

It scrapes a real `order-processor up` under real traffic. Windows of minutes are seconds here;
alerts_test.yml tests them as they are.
"""

import asyncio
import math
import sys
import tempfile
from pathlib import Path

from infra.checks.engine import CheckFailed
from infra.checks.faults import FAULTS, Fault
from infra.checks.prometheus import Prometheus, dashboard_queries
from infra.checks.system import System, running_system, traffic
from service_kit.testing.eventually import eventually

TRAFFIC_SECONDS = 25
ALERT_SECONDS_MAX = 90


async def check(folder: Path) -> None:
    async with running_system(folder) as system:
        sending = asyncio.create_task(traffic(system.api))
        await asyncio.sleep(TRAFFIC_SECONDS)
        await dashboard_has_data(system.prometheus)
        await healthy_means_quiet(system.prometheus)
        for fault, alerts in FAULTS:
            await fires(system, fault, alerts)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def dashboard_has_data(prometheus: Prometheus) -> None:
    queries = dashboard_queries()
    empty = [f"{title}: {query}" for title, query in queries if not await _has_data(prometheus, query)]
    if empty:
        raise CheckFailed("no data for\n  " + "\n  ".join(empty))
    print(f"✓ all {len(queries)} queries of the dashboard return data", flush=True)


async def _has_data(prometheus: Prometheus, query: str) -> bool:
    return any(not math.isnan(float(found["value"][1])) for found in await prometheus.query(query))


async def healthy_means_quiet(prometheus: Prometheus) -> None:
    if firing := await prometheus.firing():
        raise CheckFailed(f"these alerts fire although nothing is wrong: {sorted(firing)}")
    print("✓ no alert fires while nothing is wrong", flush=True)


async def fires(system: System, fault: Fault, alerts: set[str]) -> None:
    """Do it, and wait until each of `alerts` has fired, together or one after the other."""
    seen: set[str] = set()

    async def all_seen() -> bool:
        seen.update(await system.prometheus.firing())
        return alerts <= seen

    async with fault(system):
        try:
            await eventually(all_seen, within_seconds=ALERT_SECONDS_MAX)
        except AssertionError:
            raise CheckFailed(f"{fault.__name__}: {sorted(alerts - seen)} did not fire") from None
    print(f"✓ {fault.__name__.replace('_', ' ')}: {', '.join(sorted(alerts))}", flush=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="observability-") as name:
        try:
            asyncio.run(check(Path(name)))
        except CheckFailed as failure:
            print(f"✗ {failure}", file=sys.stderr)
            return 1
    print("observability-test passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
