"""The `order-processor` command. What a command needs is loaded when it runs: `--help` is to be quick."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from order_processor.commands import (
    audit,
    consuming,
    dead_letters,
    keys,
    orders,
    replays,
    rules,
    status,
    top,
    webhooks,
)
from order_processor.commands.exits import EXIT_CODES, ExitCode, complain
from service_kit.quiet_start import quiet_interrupt

NAME = "order-processor"
DATA_DIR = Path(".order-processor")

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
for words, group in (
    ("Submit orders, follow and cancel them.", orders),
    ("Look at what was set aside; replay, discard.", dead_letters),
    ("Follow and steer replays of dead letters.", replays),
    ("Pause and resume the taking of events.", consuming),
    ("Make, list, rotate and revoke API keys.", keys),
    ("See, check, rehearse and reload what decides.", rules),
    ("Say who is told of orders, and see what came of it.", webhooks),
):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2].replace("_", "-"), help=words)
for command in (audit.audit, status.status, top.top):
    app.command()(command)


def cli(argv: Sequence[str] | None = None) -> NoReturn:
    try:
        code = app(argv, prog_name=NAME, standalone_mode=False)
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except typer.TyperException as error:
        code = _usage(error)
    sys.exit(code or ExitCode.OK)


def _usage(error: typer.TyperException) -> ExitCode:
    """In one line, as everything that goes wrong; of a command without arguments the help was shown."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else NAME
    if words := _words(error):
        complain(f"{words}; see {where} --help")
    return ExitCode.USAGE


def _words(error: typer.TyperException) -> str:
    if isinstance(error, typer.BadParameter) and error.param and error.message:
        return f"argument {error.param.opts[0]}: {error.message}"
    return error.format_message().rstrip(".")


def _port(given: str | int) -> int:
    """Typer hands over the default too, which is a number already."""
    text = str(given)
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise typer.BadParameter(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(NAME, version(NAME))
        raise typer.Exit


@app.callback()
def order_processor(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show it and exit")
    ] = False,
) -> None:
    """Orders in, decisions out: run both services, or operate a deployment of them."""


@app.command()
def up(
    order_port: Annotated[int, typer.Option(parser=_port, metavar="PORT", help="of order-service")] = 8000,
    processor_port: Annotated[
        int, typer.Option(parser=_port, metavar="PORT", help="of processor-service")
    ] = 8001,
    data_dir: Annotated[Path, typer.Option(help="where the data are kept")] = DATA_DIR,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="keep nothing: the data go when it stops")
    ] = False,
) -> None:
    """Start both services, submit two sample orders and serve until Ctrl-C.

    They run on an embedded PostgreSQL and an in-process broker. Whichever of APP__ORDER_DB_DSN,
    APP__PROCESSOR_DB_DSN and APP__RABBITMQ_URL is set is used instead.
    """
    with quiet_interrupt():
        from order_processor.foreground import run_in_foreground
        from order_processor.up import UpOptions

    options = UpOptions(
        order_port=order_port, processor_port=processor_port, data_dir=None if ephemeral else data_dir
    )
    raise typer.Exit(run_in_foreground(options))
