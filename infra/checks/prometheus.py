"""A real Prometheus that scrapes what it is told, with the project's alerts in a hurry."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.checks.engine import FOLDER, CheckFailed
from service_kit.testing.eventually import eventually

WINDOW = "15s"
"""Instead of minutes: of every window of a query, and so of `$__rate_interval` in the dashboard."""
_HOLD = "2s"
_SECONDS = {"OutboxStuck": ("> 60", "> 4"), "OrdersSlow": ("> 10", "> 4"), "QueueLag": ("> 60", "> 4")}
"""What an alert waits for in real life, and here."""


class Prometheus:
    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=10)

    async def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        answer = await self._client.get("/api/v1/query", params={"query": expression})
        if answer.status_code != 200:
            raise CheckFailed(f"{expression}: {answer.text}")
        found: Sequence[Mapping[str, Any]] = answer.json()["data"]["result"]
        return found

    async def firing(self) -> set[str]:
        return {found["metric"]["alertname"] for found in await self.query('ALERTS{alertstate="firing"}')}

    async def answers(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        await self._client.aclose()


def hurried_alerts() -> str:
    """The rules of alerts.yml: the same expressions over seconds instead of minutes."""
    rules = yaml.safe_load((FOLDER / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"\[\d+m\]", f"[{WINDOW}]", rule["expr"])
            if "for" in rule:
                rule["for"] = _HOLD
            real, here = _SECONDS.get(rule["alert"], ("", ""))
            if real and real not in rule["expr"]:
                raise CheckFailed(f"{rule['alert']} has another threshold than {real}")
            rule["expr"] = rule["expr"].replace(real, here) if real else rule["expr"]
    return yaml.safe_dump(rules)


def dashboard_queries() -> list[tuple[str, str]]:
    """Title and expression of every query of the dashboard."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "orders.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", WINDOW))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


@asynccontextmanager
async def running_prometheus(
    folder: Path, port: int, targets: Mapping[str, int]
) -> AsyncIterator[Prometheus]:
    """Scrapes each second `targets`, ports by job; its data are in `folder`. Raises CheckFailed."""
    program = shutil.which("prometheus")
    if program is None:
        raise CheckFailed(
            "prometheus is not installed (Debian: apt-get install --no-install-recommends prometheus)"
        )
    folder.mkdir()
    (folder / "alerts.yml").write_text(hurried_alerts())
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        for job, target in targets.items()
    ]
    times = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config = {"global": times, "rule_files": ["alerts.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, *options, stdout=log, stderr=log)
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:
        await eventually(prometheus.answers, within_seconds=30)
        yield prometheus
    finally:
        await prometheus.close()
        if process.returncode is None:
            process.terminate()
        await process.wait()
