"""Both services on a real PostgreSQL and a broker in this process, and the command as somebody types it."""

import asyncio
import os
import pty
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from order_processor_client import AsyncOrderProcessorClient
from order_service.main import MIGRATIONS as ORDER_MIGRATIONS
from order_service.main import order_service
from order_service.settings import OrderSettings
from processor_service.main import MIGRATIONS as PROCESSOR_MIGRATIONS
from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.inprocess import InProcessBroker
from service_kit.service import Service
from service_kit.testing.postgres_server import PostgresServer, fresh_database

COMMAND = Path(sys.executable).parent / "order-processor"
KEY = "a-key-of-the-tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    order: Service
    processor: Service
    order_dsn: str
    processor_dsn: str
    broker: InProcessBroker

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ORDER_PROCESSOR_URL": self.order.url,
            "ORDER_PROCESSOR_PROCESSOR_URL": self.processor.url,
            "ORDER_PROCESSOR_KEY": KEY,
        }


@pytest.fixture
async def deployment(postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Deployment]:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nskus = ["teapot"]\nfail_reason = "No teapots"\n')
    async with (
        fresh_database(postgres_server, "order-service", ORDER_MIGRATIONS.upgrade) as order_dsn,
        fresh_database(postgres_server, "processor-service", PROCESSOR_MIGRATIONS.upgrade) as processor_dsn,
        InProcessBroker() as broker,
    ):
        theirs = ProcessorSettings(db_dsn=processor_dsn, port=0, admin_key=KEY, rules_file=str(rules))
        policy = configured_policy(theirs, Random())
        async with Service("processor-service", processor_service(theirs, broker, policy)) as processor:
            ours = OrderSettings(
                db_dsn=order_dsn,
                port=0,
                admin_key=KEY,
                processor_url=processor.url,
                webhooks_allow_private=True,
            )
            async with Service("order-service", order_service(ours, broker)) as order:
                await processor.ready()
                await order.ready()
                yield Deployment(
                    order=order,
                    processor=processor,
                    order_dsn=order_dsn,
                    processor_dsn=processor_dsn,
                    broker=broker,
                )


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[AsyncOrderProcessorClient]:
    async with AsyncOrderProcessorClient(
        deployment.order.url, processor_url=deployment.processor.url, key=KEY, operator="anna"
    ) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Ended:
    code: int | None
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.output)

    @property
    def json_lines(self) -> list[Any]:
        return msgspec.json.Decoder().decode_lines(self.output.encode())


class Running:
    """A process of the command, its output read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ended(self, stdin: bytes | None = None) -> Ended:
        output, errors = await self.process.communicate(stdin)
        return Ended(self.process.returncode, output.decode(), errors.decode())

    async def close(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.communicate()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start the command with these arguments, beside a plain environment that `settings` are added to."""
    running: list[Running] = []

    async def start(*arguments: str | Path, settings: Mapping[str, str] | None = None) -> Running:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            *arguments,
            env=_plain_environment() | dict(settings or {}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running.append(Running(process))
        return running[-1]

    yield start
    for one in running:
        await one.close()


class Terminal:
    """The command on a terminal of 100 columns and 30 lines; `shown` is all that it has written."""

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self.keyboard, screen = pty.openpty()
        termios.tcsetwinsize(screen, (30, 100))
        self.settings_before = termios.tcgetattr(screen)
        self._screen = screen
        self._written = bytearray()
        # Its own controlling terminal, so that Ctrl-C typed there is a signal for it alone.
        self.process = subprocess.Popen(
            [COMMAND, *arguments], env=environment, preexec_fn=partial(os.login_tty, screen)
        )
        asyncio.get_running_loop().add_reader(self.keyboard, self._read)

    @property
    def shown(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._screen)

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.keyboard)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.keyboard)
        os.close(self._screen)

    def _read(self) -> None:
        self._written += os.read(self.keyboard, 65536)


@pytest.fixture
async def on_terminal(deployment: Deployment) -> AsyncIterator[Callable[..., Terminal]]:
    """Start the command on a terminal, against the deployment."""
    terminals: list[Terminal] = []

    def start(*arguments: str | Path) -> Terminal:
        environment = _plain_environment() | deployment.environment | {"TERM": "xterm-256color"}
        terminals.append(Terminal(arguments, environment))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


Run = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def run(start: Start) -> Run:
    """Run the command to its end."""

    async def run(
        *arguments: str | Path, stdin: bytes | None = None, settings: Mapping[str, str] | None = None
    ) -> Ended:
        return await (await start(*arguments, settings=settings)).ended(stdin)

    return run


@pytest.fixture
def operate(run: Run, deployment: Deployment) -> Run:
    """Run the command against the deployment."""

    async def operate(*arguments: str | Path, stdin: bytes | None = None, **settings: str) -> Ended:
        return await run(*arguments, stdin=stdin, settings=deployment.environment | settings)

    return operate


def _plain_environment() -> dict[str, str]:
    ours = ("APP__", "ORDER_PROCESSOR_", "_ORDER_PROCESSOR", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
