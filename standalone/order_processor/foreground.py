"""`order-processor up` in the foreground: its logs, its signals, its exit code."""

import asyncio
import os
import sys
from collections.abc import Mapping

from order_processor.screen import Screen
from order_processor.up import UpOptions, up
from service_kit.cli import run_to_the_end
from service_kit.observability.logs import configure_logs
from service_kit.service import stop_signals
from service_kit.settings import LOG_LEVELS

NAME = "order-processor"
INTERRUPTED = 130


def run_in_foreground(options: UpOptions) -> int:
    """Exit code 0 when stopped by a signal, 1 when something cannot be started, 2 for a wrong setting."""
    # The screen tells what goes on; the services' own logs are for what goes wrong, unless asked for.
    configure_logs(_log_level(os.environ), NAME, stream=sys.stderr)
    return run_to_the_end(NAME, _run(options))


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
