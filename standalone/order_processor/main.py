"""The `order-processor` command."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from order_processor.screen import Screen
from order_processor.up import UpOptions, up
from service_kit.cli import Parser, add_version, run_to_the_end
from service_kit.observability.logs import configure_logs
from service_kit.service import stop_signals
from service_kit.settings import LOG_LEVELS

NAME = "order-processor"
DATA_DIR = Path(".order-processor")
INTERRUPTED = 130


def cli(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit 0 when stopped by a signal, 1 when something cannot be started, 2 for a wrong setting."""
    options = _parser().parse_args(argv)
    # The screen tells what goes on; the services' own logs are for what goes wrong, unless asked for.
    configure_logs(_log_level(os.environ), NAME, stream=sys.stderr)
    up_options = UpOptions(
        order_port=options.order_port,
        processor_port=options.processor_port,
        data_dir=None if options.ephemeral else options.data_dir,
    )
    sys.exit(run_to_the_end(NAME, _run(up_options)))


def _log_level(environ: Mapping[str, str]) -> str:
    """That of the environment, if it is one: `up` tells of a wrong one with all other settings."""
    level = environ.get("APP__LOG_LEVEL", "").strip().upper()
    return level if level in LOG_LEVELS else "WARNING"


async def _run(options: UpOptions) -> int:
    """Also what is being started can be interrupted: it is taken down again, not left half up."""
    with stop_signals() as stop:
        running = asyncio.ensure_future(up(options, os.environ, Screen()))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if running.done():
            running.result()
            return 0
        running.cancel()
        await asyncio.wait({running})
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=NAME, description="Orders in, decisions out: both services in one process.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "up",
        help="start everything, submit two sample orders and serve until Ctrl-C",
        description="Start both services on an embedded PostgreSQL and an in-process broker. Whichever of "
        "APP__ORDER_DB_DSN, APP__PROCESSOR_DB_DSN and APP__RABBITMQ_URL is set is used instead.",
    )
    command.add_argument("--order-port", type=_port, default=8000, help="of order-service (default: 8000)")
    command.add_argument(
        "--processor-port", type=_port, default=8001, help="of processor-service (default: 8001)"
    )
    command.add_argument(
        "--data-dir", type=Path, default=DATA_DIR, help=f"where the data are kept (default: {DATA_DIR})"
    )
    command.add_argument("--ephemeral", action="store_true", help="keep nothing: the data go when it stops")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)
