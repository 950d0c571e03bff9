"""`processor-service rules`: check a ruleset, and rehearse it on past orders."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from processor_service.application.read_ruleset import InvalidRules, read_ruleset
from processor_service.application.rehearse import Example, Rehearsal, rehearse
from processor_service.consumers.order_created import order_of
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.past_orders import PostgresPastOrders
from processor_service.settings import ProcessorSettings
from service_kit.cli import complain, positive, printable
from service_kit.errors import StartupError
from service_kit.postgres.database import Database

INVALID = 1
EXAMPLES_SHOWN = 3


def add_rules_commands(parser: argparse.ArgumentParser) -> None:
    action = parser.add_subparsers(dest="rules", required=True, metavar="ACTION")

    check = action.add_parser("check", help="say whether a file is a ruleset, and what is wrong with it")
    check.add_argument("file", type=Path, metavar="FILE", help="the rules, in TOML")
    check.set_defaults(action=_check, needs_database=False)

    rehearsal = action.add_parser(
        "rehearse",
        help="run a ruleset over past orders and show what would change",
        description="Run the ruleset in FILE over the orders decided last, and show how many would be "
        "decided otherwise. Nothing is written. Rules alone are compared: an order that no rule applies to "
        "counts as done, and so does one that failed at random.",
    )
    rehearsal.add_argument("file", type=Path, metavar="FILE", help="the rules, in TOML")
    rehearsal.add_argument(
        "--last", type=positive, default=10_000, metavar="N", help="so many orders (default: 10000)"
    )
    rehearsal.add_argument("--json", action="store_true", help="the result as one JSON object")
    rehearsal.set_defaults(action=_rehearse)


async def run_rules_command(settings: ProcessorSettings, arguments: argparse.Namespace) -> int:
    """0 done; 1 the file is no ruleset. Raises StartupError when it cannot be read, DatabaseUnavailable."""
    try:
        ruleset = read_ruleset(_content(arguments.file), settings.success_rate)
    except InvalidRules as error:
        for fault in error.faults:
            complain(arguments.program, f"{arguments.file}: {fault}")
        return INVALID
    code: int = await arguments.action(ruleset, settings, arguments)
    return code


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read {path}: {error.strerror}", exit_code=2) from error


async def _check(ruleset: Ruleset, settings: ProcessorSettings, arguments: argparse.Namespace) -> int:
    print(f"{printable(str(arguments.file))} is a ruleset, version {ruleset.version}")
    for number, rule in enumerate(ruleset.rules, start=1):
        skus = ", ".join(printable(sku) for sku in sorted(rule.skus))
        print(f"rule {number}: {skus} → failed: {printable(rule.fail_reason)}")
    print(f"any other order: done, at the rate {ruleset.success_rate:g} of APP__SUCCESS_RATE")
    return 0


async def _rehearse(ruleset: Ruleset, settings: ProcessorSettings, arguments: argparse.Namespace) -> int:
    name = f"{settings.service_name} rules rehearse"
    async with Database(settings.db_dsn, application_name=name, connections_max=1) as database:
        with _progress(arguments.last) as on_progress:
            rehearsal = await rehearse(
                ruleset,
                PostgresPastOrders(database),
                last=arguments.last,
                read=order_of,
                on_progress=on_progress,
            )
    print(json.dumps(rehearsal.report())) if arguments.json else _tell(rehearsal)
    return 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when that is a terminal."""
    columns = (TextColumn("rehearsing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("rehearsing", total=total)
        yield lambda orders: progress.update(task, completed=orders)


def _tell(rehearsal: Rehearsal) -> None:
    print(
        f"version {rehearsal.version}: {rehearsal.orders:,} orders, {rehearsal.unchanged:,} unchanged, "
        f"{rehearsal.changed:,} changed"
    )
    if rehearsal.unreadable:
        print(f"{rehearsal.unreadable:,} orders could not be read")
    if not rehearsal.changes:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("orders", justify="right", no_wrap=True)
    for heading in ("before", "now", "for example"):
        table.add_column(heading, overflow="fold")
    for (before, after), change in rehearsal.ranked():
        examples = ", ".join(map(_shown, change.examples[:EXAMPLES_SHOWN]))
        cells = (f"{change.count:,}", before, after, examples)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _shown(example: Example) -> str:
    rule = "no rule" if example.rule is None else f"rule {example.rule}: {example.sku}"
    return f"{example.order_id} ({rule})"
