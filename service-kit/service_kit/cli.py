"""The command line that every service has: serve, migrate, and what an operator does with dead letters."""

import argparse
import asyncio
import base64
import gc
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service_kit import failpoints
from service_kit.errors import ServiceKitError, StartupError
from service_kit.failures import DeadLetter, DeadLetters
from service_kit.observability.logs import configure_logs
from service_kit.printable import printable as printable
from service_kit.settings import Settings, masked, read_settings, settings_help
from service_kit.version import installed_version

log = structlog.stdlib.get_logger()

S = TypeVar("S", bound=Settings)

NO_DATABASE = {"APP__DB_DSN": "postgresql://none"}
"""For a command that needs none, so that nobody has to name one."""

_PAGE = 50  # dead letters carry their bodies: a page of the largest is 75 MiB
_LEAVE_SECONDS = 5.0
_MORE_SETTINGS = """
  OTEL_*                         of OpenTelemetry; traces are off until OTEL_EXPORTER_OTLP_ENDPOINT is set"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommand(Generic[S]):
    """A command that one service alone has: `add` gives it its arguments, `run` returns the exit code.

    `needs_database=False` as a default of the arguments frees it from APP__DB_DSN.
    """

    name: str
    help: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[S, argparse.Namespace], Awaitable[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands(Generic[S]):
    """What one service does for each command; before, the settings are read and the logs configured.

    `serve` loads at once what may be missing (StartupError); what it returns ends when the service was told
    to stop and has drained. `migrate` returns a line that says at which revision the database is now.
    `also_known_settings` are names (without prefix) that mean something to others and so are no mistake.
    """

    name: str
    description: str
    settings: type[S]
    serve: Callable[[S], Awaitable[None]]
    migrate: Callable[[S], Awaitable[str]]
    dead_letters: Callable[[S], AbstractAsyncContextManager[DeadLetters]]
    also_known_settings: Sequence[str] = ()
    own: Sequence[OwnCommand[S]] = ()


def run(
    commands: Commands[S], argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run one command and return the exit code of the process.

    0 done; 1 it could not be done; 2 wrong usage or settings; 130 interrupted. What went wrong is a line on
    stderr, never a traceback.
    """
    try:
        arguments = _parser(commands).parse_args(argv)
        known = commands.also_known_settings
        given = environ if arguments.needs_database else NO_DATABASE | dict(environ)
        settings, warnings = read_settings(commands.settings, given, also_known=known)
        serves = arguments.command == "serve"
        logs_to = sys.stdout if serves else sys.stderr
        # What an operator discards is told in the log alone: there every line counts.
        configure_logs(settings.log_level, settings.service_name, stream=logs_to, limited=serves)
        for warning in warnings:
            log.warning("setting_unknown", detail=warning)
        failpoints.arm(environ)
        return run_to_the_end(commands.name, _command(commands, settings, arguments))
    except SystemExit as leaving:  # argparse has said all
        return leaving.code if isinstance(leaving.code, int) else 2
    except (Exception, KeyboardInterrupt) as error:
        return _report(commands.name, error)


def run_to_the_end(program: str, command: Coroutine[Any, Any, int]) -> int:
    """Run `command` on the fastest event loop there is; its code, or that of the error that it raised.

    Ends the process when a thread still hangs 5 s after the command: nothing may keep a drained service.
    """
    _spare_garbage_collection()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            code = runner.run(command)
            sys.stdout.flush()  # here a broken pipe can still be told from a failure
        except BaseException as error:
            code = _report(program, error)
        leaving = threading.Timer(_LEAVE_SECONDS, os._exit, (code,))
        leaving.daemon = True
        leaving.start()
    leaving.cancel()
    return code


async def _command(commands: Commands[S], settings: S, arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "serve":
            serving = commands.serve(settings)
            log.info("service_starting", version=installed_version(), settings=masked(settings))
            await serving
            return 0
        case "migrate":
            print(await commands.migrate(settings))
            return 0
        case "dead-letters":
            async with commands.dead_letters(settings) as letters:
                code: int = await arguments.action(letters, arguments)
                return code
        case name:
            return await next(own for own in commands.own if own.name == name).run(settings, arguments)


def _report(program: str, error: BaseException) -> int:
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():
            return 130
        case BrokenPipeError():  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case ServiceKitError():
            complain(program, str(error))
            return error.exit_code if isinstance(error, StartupError) else 1
        case _:
            log.debug("command_failed", exc_info=error)
            hint = "APP__LOG_LEVEL=DEBUG shows where"
            complain(program, f"unexpected {type(error).__name__}: {error} ({hint})")
            return 1


def complain(program: str, text: str) -> None:
    for line in text.splitlines():
        print(f"{program}: {printable(line)}", file=sys.stderr)


def _spare_garbage_collection() -> None:
    """What is imported stays for good, and hot paths make no cycles: look seldom, and not at all of it."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"{parser.prog} {installed_version()}")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def _parser(commands: Commands[Any]) -> argparse.ArgumentParser:
    parser = Parser(prog=commands.name, description=commands.description)
    parser.set_defaults(program=commands.name, needs_database=True)
    add_version(parser)
    command = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command.add_parser(
        "serve",
        help="run the service until SIGTERM or Ctrl-C",
        description="Run the service. SIGTERM or Ctrl-C drains it; a second Ctrl-C leaves at once.",
        epilog="settings, from the environment:\n" + settings_help(commands.settings) + _MORE_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_parser("migrate", help="bring the database to the newest revision; safe on a running system")
    _add_dead_letters(
        command.add_parser("dead-letters", help="look at events that were set aside; replay, discard")
    )
    for own in commands.own:
        own.add(command.add_parser(own.name, help=own.help))
    return parser


def _add_dead_letters(parser: argparse.ArgumentParser) -> None:
    action = parser.add_subparsers(dest="dead_letters", required=True, metavar="ACTION")

    listing = action.add_parser("list", help="all of them, oldest first")
    listing.add_argument("--limit", type=positive, default=100, help="at most so many (default: 100)")
    listing.add_argument("--after", type=positive, default=0, metavar="ID", help="only those after this one")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, with body and headers")
    listing.set_defaults(action=_list)

    show = action.add_parser("show", help="one of them, with body and headers")
    show.add_argument("id", type=positive, metavar="ID")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(action=_show)

    replay = action.add_parser("replay", help="hand them to the service again, their attempts forgotten")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", type=positive, nargs="*", metavar="ID", default=[])
    which.add_argument("--all", action="store_true", help="every one that is there now")
    replay.set_defaults(action=_replay)

    discard = action.add_parser("discard", help="delete them; each is logged with the reason")
    discard.add_argument("ids", type=positive, nargs="+", metavar="ID")
    discard.add_argument("--reason", required=True, help="why, in words for whoever reads the log")
    discard.set_defaults(action=_discard)


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


async def _list(letters: DeadLetters, arguments: argparse.Namespace) -> int:
    table = _new_table()
    after_id, left = arguments.after, arguments.limit
    while left and (page := await letters.list(limit=min(left, _PAGE), after_id=after_id)):
        for letter in page:
            print(_as_json(letter)) if arguments.json else _add_row(table, letter)
        after_id, left = page[-1].id, left - len(page)
    if not arguments.json:
        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(table if table.row_count else "no dead letters")
    return 0


async def _show(letters: DeadLetters, arguments: argparse.Namespace) -> int:
    letter = await letters.get(arguments.id)
    if letter is None:
        complain(arguments.program, f"there is no dead letter {arguments.id}")
        return 1
    print(_as_json(letter) if arguments.json else _as_text(letter))
    return 0


async def _replay(letters: DeadLetters, arguments: argparse.Namespace) -> int:
    ids = await _ids(letters) if arguments.all else arguments.ids
    return _tell("replayed", await letters.replay(ids) if ids else 0, ids)


async def _discard(letters: DeadLetters, arguments: argparse.Namespace) -> int:
    return _tell("discarded", await letters.discard(arguments.ids, reason=arguments.reason), arguments.ids)


def _tell(done: str, count: int, ids: Sequence[int]) -> int:
    missing = len(set(ids)) - count
    print(f"{count} {done}" + (f", {missing} not there" if missing else ""))
    return 1 if missing else 0


async def _ids(letters: DeadLetters) -> list[int]:
    """Those that are there now: what fails again after its replay is not replayed for ever."""
    ids: list[int] = []
    while page := await letters.list(limit=_PAGE, after_id=ids[-1] if ids else 0):
        ids += [letter.id for letter in page]
    return ids


def _new_table() -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "moved at (UTC)", "event", "attempts", "seen"):
        table.add_column(column, no_wrap=True)
    table.add_column("key", overflow="fold")
    table.add_column("reason", overflow="fold")
    return table


def _add_row(table: Table, letter: DeadLetter) -> None:
    moved_at = f"{letter.moved_to_dlq_at:%Y-%m-%d %H:%M:%S}"
    numbers = (str(letter.attempts), str(letter.times_seen))
    cells = (str(letter.id), moved_at, letter.event_type, *numbers, letter.event_key, letter.reason)
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _fields(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "event_type": letter.event_type,
        "event_key": letter.event_key,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "times_seen": letter.times_seen,
        "moved_to_dlq_at": letter.moved_to_dlq_at.isoformat(),
        "message_id": letter.message_id,
        "headers": dict(letter.headers),
    }


def _as_json(letter: DeadLetter) -> str:
    """ASCII alone, so that nothing reaches a terminal raw. A body that is no UTF-8 is given as Base64."""
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(letter.body).decode()}
    return json.dumps(_fields(letter) | body, default=repr)


def _as_text(letter: DeadLetter) -> str:
    lines = [f"{name:16} {printable(str(value))}" for name, value in _fields(letter).items()]
    body = letter.body.decode("utf-8", "backslashreplace")
    return "\n".join([*lines, "", *(printable(line) for line in body.split("\n"))])
