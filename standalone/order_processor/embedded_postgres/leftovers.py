"""What a run that was killed may have left: a server that lives on, and files that name a process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from service_kit.errors import StartupError

_POLL_SECONDS = 0.02
_PID, _SOCKET_FOLDER, _STATUS = 0, 4, 7


def stop_server_on(data: Path, *, within_seconds: float) -> None:
    """Stop the server that an earlier run left on `data`, so that another can be started there.

    It is not adopted: it may be of an older release, with other settings. Raises StartupError when it does
    not stop.
    """
    lines = _pid_file(data)
    process = _process(int(lines[_PID])) if lines and lines[_PID].strip().isdigit() else None
    if process is None:
        return
    if _serves(process, data):
        stop(process.pid, lambda: None if _lives(process) else 0, within_seconds=within_seconds)
    if not _lives(process) or not _is_postgres(process):
        _declare_stale(data)


def socket_folder_of(data: Path) -> Path | None:
    """Where the last server on `data` had its socket, unless it was stopped in order."""
    lines = _pid_file(data)
    return Path(lines[_SOCKET_FOLDER]) if len(lines) > _SOCKET_FOLDER else None


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
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "postgres")
    except psutil.Error:
        return False


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        command_line = process.cmdline()
    except psutil.Error:
        return False
    # A process that is just ending has no command line any more, but may still be in the way.
    return _is_postgres(process) and (not command_line or str(data) in command_line)


def _declare_stale(data: Path) -> None:
    # The number is that of a zombie, or was given to another program since, as happens in containers and
    # after a reboot. PostgreSQL would not start; but the number of its own parent tells it that the file is
    # stale. The file stays, because it also tells PostgreSQL which shared memory to look at.
    if lines := _pid_file(data):
        (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
