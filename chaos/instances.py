"""Processes of the services, started again whenever they end, as an orchestrator does."""

import asyncio
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
import psutil

from acceptance.http_client import request
from acceptance.processes import COMMANDS, plain_environment
from chaos import programs

_RESTART_SECONDS = 0.2
_STOP_SECONDS_MAX = 30.0


class Instance:
    """One process of `command`, with the `settings` as its environment.

    `ended` counts how it ended: `killed` and `terminated` by us, `failpoint` by itself as it was told to, and
    anything else as what it was, such as `exit 1`: that is a fault of the service.
    """

    def __init__(self, name: str, command: str, settings: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.command = command
        self.log = folder / f"{name}.log"
        self.ended: Counter[str] = Counter()
        self.starts = 0
        self.port = programs.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {**plain_environment(), **settings, "APP__PORT": str(self.port)}
        self._once: Mapping[str, str] = {}
        self._told: signal.Signals | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._life = asyncio.create_task(self._live(), name=self.name)

    async def close(self) -> int | None:
        """End it in order, for good; its exit code."""
        if self._life:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        await programs.end(self._process, signal.SIGTERM, within_seconds=_STOP_SECONDS_MAX)
        return self._process.returncode if self._process else None

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained; then it starts again."""
        process = self._process
        self.signal(signal.SIGTERM)
        if process:
            try:
                async with asyncio.timeout(_STOP_SECONDS_MAX):
                    await process.wait()
            except TimeoutError:
                self.ended["did not drain"] += 1
                process.kill()

    def signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._told = number
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def next_environment(self, environment: Mapping[str, str]) -> None:
        """For its next start only."""
        self._once = environment

    async def ready(self, within_seconds: float) -> bool:
        try:
            async with asyncio.timeout(within_seconds):
                while not await self._is_ready():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return False
        return True

    @property
    def process(self) -> psutil.Process | None:
        if self._process is None or self._process.returncode is not None:
            return None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid)
        return None

    def events(self) -> Counter[str]:
        """How often each event above INFO is in its log."""
        events: Counter[str] = Counter()
        for line in self.log.read_bytes().splitlines() if self.log.exists() else ():
            with suppress(msgspec.DecodeError, AttributeError):
                entry = msgspec.json.decode(line)
                if entry.get("level") in ("warning", "error", "critical"):
                    events[str(entry.get("event"))] += 1
        return events

    async def problems(self) -> str:
        """What `/ready` says, whatever it is."""
        try:
            async with asyncio.timeout(5):
                return (await request("GET", f"{self.url}/ready")).body.decode()
        except (OSError, EOFError):
            return "no answer"

    def clock_skew_seconds(self) -> float:
        """Between the time on its last line of log and ours; of a talkative process, that is."""
        for line in reversed(self.log.read_bytes().splitlines()):
            with suppress(msgspec.DecodeError, KeyError, ValueError):
                stamp = datetime.fromisoformat(msgspec.json.decode(line)["timestamp"])
                return stamp.timestamp() - self.log.stat().st_mtime
        return 0.0

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return (await request("GET", f"{self.url}/ready")).status == 200
        except (OSError, EOFError):
            return False

    async def _live(self) -> None:
        while True:
            once, self._once = self._once, {}
            self._told = None
            self.starts += 1
            environment = {**self._settings, **once}
            self._process = await programs.launch(
                COMMANDS / self.command, "serve", environment=environment, log=self.log
            )
            code = await self._process.wait()
            self.ended[self._how(code, armed="FAILPOINT" in once)] += 1
            await asyncio.sleep(_RESTART_SECONDS)

    def _how(self, code: int, *, armed: bool) -> str:
        if code == -signal.SIGKILL and (self._told is signal.SIGKILL or armed):
            return "killed" if self._told else "failpoint"
        if self._told is signal.SIGTERM and code == 0:
            return "terminated"
        if self._told is signal.SIGTERM and code in (-signal.SIGTERM, 130):
            return "terminated before it listened"
        return f"exit {code}"
