"""Services as processes of their own, started by their real commands."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from acceptance.http_client import request
from service_kit.testing.eventually import eventually

COMMANDS = Path(sys.executable).parent
START_SECONDS_MAX = 120.0


class ServiceProcess:
    """One process of `command`; its log (stdout and stderr) goes to a file.

    Listens on a port that the system chooses; a process started again listens on the same.
    """

    def __init__(self, command: str, settings: Mapping[str, str], log_path: Path) -> None:
        self.command = command
        self.log_path = log_path
        self._settings = dict(settings)
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self, *, ready: bool = True) -> None:
        """Return when it listens, and (`ready`) when `/ready` says so."""
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                COMMANDS / self.command,
                "serve",
                env=plain_environment() | {"APP__PORT": "0"} | self._settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = await eventually(lambda: self._listening_url(begin), within_seconds=START_SECONDS_MAX)
        self._settings["APP__PORT"] = self.url.rpartition(":")[2]
        if ready:
            await eventually(self.is_ready, within_seconds=START_SECONDS_MAX)

    async def is_ready(self) -> bool:
        try:
            return (await request("GET", f"{self.url}/ready")).status == 200
        except (OSError, EOFError):
            return False

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """As a crash: no chance to finish anything."""
        assert self._process
        self._process.kill()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def wait(self) -> int:
        assert self._process
        return await self._process.wait()

    async def close(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def log_lines(self) -> list[str]:
        return self.log_path.read_text().splitlines()

    async def _listening_url(self, begin: int) -> str | None:
        assert self._process
        text = self.log_path.read_bytes()[begin:].decode()
        for line in text.splitlines():
            with suppress(msgspec.DecodeError):
                entry = msgspec.json.decode(line)
                if entry.get("event") == "service_listening":
                    return str(entry["url"])
        if self._process.returncode is not None:
            raise RuntimeError(f"{self.command} ended: {text}")
        return None


def plain_environment() -> dict[str, str]:
    """This process's environment without settings that somebody may have set."""
    return {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("APP__", "OTEL_"))
    }
