"""How the commands end: for scripts a number, for people one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from service_kit.printable import printable


class ExitCode(IntEnum):
    """What the exit codes mean, the same for every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    CONFLICT = 4
    NOT_ALLOWED = 5
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 not reachable, or not now: try again later; "
    "4 not there, or in the way; 5 the key is missing or wrong; 130 interrupted."
)
_BY_STATUS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.CONFLICT,
    409: ExitCode.CONFLICT,
    429: ExitCode.UNREACHABLE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}


class Failure(Exception):
    """A command cannot go on; the text is for people."""

    def __init__(self, text: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def endings() -> Iterator[None]:
    """Turn what ends a command into its exit code, after a line on stderr that says what went wrong."""
    try:
        yield
        sys.stdout.flush()  # here a broken pipe can still be told from a failure
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except Exception as error:
        code, lines = _explained(error)
        for line in lines:
            complain(line)
        raise typer.Exit(code) from error


def complain(line: str) -> None:
    print(f"order-processor: {printable(line)}", file=sys.stderr)


def _explained(error: Exception) -> tuple[ExitCode, list[str]]:
    from order_processor_client import Misconfigured, ProblemError, UnexpectedAnswer, Unreachable

    match error:
        case Failure():
            return error.code, [str(error)]
        case Misconfigured():
            return ExitCode.USAGE, [str(error)]
        case Unreachable():
            return ExitCode.UNREACHABLE, [f"{error}; --url and --processor-url say where the services are"]
        case ProblemError():
            code = _BY_STATUS.get(error.status, ExitCode.FAILED)
            hint = "; --key or ORDER_PROCESSOR_KEY gives the key" if error.status == 401 else ""
            return code, [error.detail + hint, *map(str, error.errors)]
        case UnexpectedAnswer():
            return ExitCode.FAILED, [str(error)]
        case _:
            if os.environ.get("APP__LOG_LEVEL", "").upper() == "DEBUG":
                raise error
            hint = "APP__LOG_LEVEL=DEBUG shows where"
            return ExitCode.FAILED, [f"unexpected {type(error).__name__}: {error} ({hint})"]
