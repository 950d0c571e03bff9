"""What a run that was killed may have left: a server that lives on, and files that name a process."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from service_kit.errors import StartupError

_POLL_SECONDS = 0.02
_PID, _SOCKET_FOLDER, _STATUS = 0, 4, 7


def clear(data: Path, socket_folder_prefix: str, *, within_seconds: float) -> None:
    """Stop the server that an earlier run left on `data`, and remove what it left elsewhere.

    It is restarted rather than adopted: it may be of an older release, with other settings. Raises
    StartupError when it does not stop.
    """
    lines = _pid_file(data)
    if not lines or not lines[_PID].strip().isdigit():
        return
    process = _process(int(lines[_PID]))
    if process is not None and _serves(process, data):
        stop(process.pid, lambda: None if _lives(process) else 0, within_seconds=within_seconds)
    elif process is not None and process.name() != "postgres":
        _declare_stale(data, lines)
    if len(lines) > _SOCKET_FOLDER and Path(lines[_SOCKET_FOLDER]).name.startswith(socket_folder_prefix):
        shutil.rmtree(lines[_SOCKET_FOLDER], ignore_errors=True)


def stop(pid: int, ended: Callable[[], int | None], *, within_seconds: float) -> None:
    """Stop the server `pid`: fast, or else at once (its next start then recovers), or else by force."""
    for how, seconds in ((signal.SIGINT, within_seconds), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
        if ended() is not None:
            return
        os.kill(pid, how)
        deadline = time.monotonic() + seconds
        while ended() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    if ended() is None:
        raise StartupError(f"PostgreSQL, process {pid}, does not stop")


def ready_pid(data: Path) -> int | None:
    """The process that serves `data` and takes connections, by its own word."""
    lines = _pid_file(data)
    return int(lines[_PID]) if len(lines) > _STATUS and lines[_STATUS].strip() == "ready" else None


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and str(data) in process.cmdline()
    except psutil.Error:
        return False


def _declare_stale(data: Path, lines: list[str]) -> None:
    # The number was given to another program since, as happens in containers and after a reboot. PostgreSQL
    # would not start; it takes the number of its own parent, though, for a sign that the file is stale. The
    # file stays, because it also tells PostgreSQL which shared memory to look at.
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
