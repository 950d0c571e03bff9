"""A service of its own kind, as its program would be: `python program.py serve`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import service_kit

Start = Callable[..., "subprocess.Popen[str]"]

PROGRAM = """
import asyncio, structlog, sys
from contextlib import asynccontextmanager
from starlette.responses import Response
from starlette.routing import Route
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role
from service_kit.cli import Commands, run
from service_kit.errors import DatabaseUnavailable
from service_kit.lifecycle import BackgroundService
from service_kit.observability.metrics import Metrics
from service_kit.service import Service, ServiceParts, serve_until_stopped
from service_kit.settings import Name, Port, Settings


class ProbeSettings(Settings, frozen=True, kw_only=True):
    service_name: Name = "probe-service"
    port: Port = 0
    trouble: str | None = None


class Stubborn(BackgroundService):
    name = "stubborn"

    async def run_once(self) -> None:
        await asyncio.Event().wait()


async def slow(_):
    structlog.get_logger().info("slow_asked")
    await asyncio.sleep(0.3)
    return Response(b"answered")


@asynccontextmanager
async def parts(settings):
    async def prepare():
        if settings.trouble == "down":
            raise DatabaseUnavailable("database: connection refused")
        if settings.trouble == "thread":
            import time
            await asyncio.to_thread(time.sleep, 3600)

    yield ServiceParts(
        host=settings.host, port=settings.port, metrics=Metrics(), prepare=prepare,
        routes=[Route("/slow", Endpoint(slow, Role.ANYBODY))],
        background_services=[Stubborn()] if settings.trouble == "stubborn" else [],
        shutdown_grace_seconds=settings.shutdown_grace_seconds,
    )


async def serve(settings):
    await serve_until_stopped(Service(settings.service_name, parts(settings)))


async def migrate(settings):
    if settings.trouble == "down":
        raise DatabaseUnavailable("database: connection refused")
    if settings.trouble == "bug":
        raise KeyError("internals")
    return "the database is at revision 0001"


sys.exit(run(Commands(name="probe-service", description="A probe.", settings=ProbeSettings,
                      serve=serve, migrate=migrate, dead_letters=None)))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start("serve", APP__TROUBLE="down")`: the running program; ended at the end of the test."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
        environ = {name: value for name, value in os.environ.items() if not name.startswith("APP__")}
        environ |= {"PYTHONPATH": str(Path(service_kit.__file__).parents[1]), "PYTHONWARNINGS": "error"}
        environ |= {"APP__DB_DSN": "postgresql://u:hunter2@localhost/orders"} | variables
        command = [sys.executable, str(program), *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
