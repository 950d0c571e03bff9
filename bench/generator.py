"""The load generator's process, seen from the benchmark."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from acceptance.processes import plain_environment
from bench.load.spec import LoadResult, LoadSpec

ROOT = Path(__file__).parent.parent


def module_environment() -> dict[str, str]:
    """For processes of this repository's own modules, wherever they are started."""
    return {**plain_environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:2]])}


class Generator:
    """`async with Generator(spec) as generator: result = await generator.result()`."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self.begun = self.good = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[LoadResult] | None = None
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.load",
            msgspec.json.encode(self.spec).decode(),
            cwd=ROOT,
            env=module_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process and self._reading
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def stops_within(self, seconds: float) -> bool:
        """Whether its measured time is over, or it has ended; the last answers may still be awaited."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self._stopped.is_set()

    async def result(self) -> LoadResult:
        """When it has ended by itself. Raises RuntimeError when it ended without a result."""
        assert self._reading
        return await self._reading

    def allow(self, total: int) -> None:
        self._tell(f"allow {total}\n")

    def stop(self) -> None:
        self._tell("stop\n")

    def _tell(self, line: str) -> None:
        assert self._process and self._process.stdin
        if not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode())

    async def _read(self) -> LoadResult:
        assert self._process and self._process.stdout
        try:
            async for line in self._process.stdout:
                told: dict[str, Any] = msgspec.json.decode(line)
                if "result" in told:
                    return msgspec.convert(told["result"], LoadResult)
                if "stopped" in told:
                    self._stopped.set()
                else:
                    self.begun, self.good = told["begun"], told["good"]
        finally:
            self._stopped.set()
        raise RuntimeError("the load generator ended without a result")


async def load(spec: LoadSpec) -> LoadResult:
    async with Generator(spec) as generator:
        return await generator.result()
