"""Compose and Docker as the checks use them: plain commands, of whatever engine there is.

`COMPOSE` and `DOCKER` name other commands, such as `COMPOSE="podman-compose"`.
"""

import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1]
NO_ENV_FILE = Path(__file__).with_name("none.env")
PROJECT = "order_processor_check"
"""Not the name that `up` in this folder takes: `down -v` of a check never meets the data of somebody."""


class CheckFailed(Exception):
    """A check saw something else than it should have."""


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Engine:
    compose_command: Sequence[str]
    docker_command: Sequence[str]
    environ: Mapping[str, str]

    def compose(
        self, *arguments: str, environ: Mapping[str, str] | None = None, show: bool = False
    ) -> Result:
        """Of the check's own project, as if there were no .env."""
        command = [*self.compose_command, "--env-file", str(NO_ENV_FILE), "-p", PROJECT, *arguments]
        return run(command, environ or self.environ, show=show)

    def docker(self, *arguments: str) -> Result:
        return run([*self.docker_command, *arguments], self.environ)

    def in_terminal(self, *arguments: str) -> Result:
        """As somebody does who types it, with `-it`."""
        return run_in_terminal([*self.docker_command, *arguments], self.environ)


def find_engine(environ: Mapping[str, str]) -> Engine:
    """The engine that answers. Raises CheckFailed when there is none."""
    docker = shlex.split(environ.get("DOCKER") or "docker")
    if run([*docker, "info"], environ).code:
        raise CheckFailed(f"no Docker engine answers to '{shlex.join(docker)} info'")
    if named := environ.get("COMPOSE"):
        return Engine(shlex.split(named), docker, environ)
    if not run([*docker, "compose", "version"], environ).code:
        return Engine([*docker, "compose"], docker, environ)
    if shutil.which("docker-compose"):
        return Engine(["docker-compose"], docker, environ)
    raise CheckFailed("there is neither 'docker compose' nor 'docker-compose'")


def run(command: Sequence[str], environ: Mapping[str, str], *, show: bool = False) -> Result:
    """Run in the folder of the compose file; output and errors together."""
    with subprocess.Popen(
        command,
        cwd=FOLDER,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if show:
                sys.stdout.write(f"    {line}")
                sys.stdout.flush()
    return Result(process.returncode, "".join(lines))


def run_in_terminal(command: Sequence[str], environ: Mapping[str, str]) -> Result:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=FOLDER, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = b""
        while piece := _read(ours):
            output += piece
    os.close(ours)
    return Result(process.returncode, output.decode(errors="replace").replace("\r\n", "\n"))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""
