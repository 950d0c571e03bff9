"""`keys` of a service's own command line: on its database, so that the first key can be made there."""

import argparse
import getpass
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service_kit.cli import OwnCommand, positive
from service_kit.http.principal import KEY_ROLES, Role
from service_kit.postgres.api_keys import ApiKeys, MadeKey, NewKey, Row
from service_kit.postgres.audit import Cause
from service_kit.postgres.database import Database
from service_kit.postgres.migrate import Migrations
from service_kit.printable import printable
from service_kit.settings import Settings

S = TypeVar("S", bound=Settings)

_LISTED_MAX = 1_000
_NEWEST = 2**63 - 1


def key_commands(migrations: Migrations) -> OwnCommand[S]:
    """A new key is all that goes to stdout, so that a script can take it."""

    async def run(settings: S, arguments: argparse.Namespace) -> int:
        async with _keys(settings, migrations) as keys:
            await _act(keys, arguments)
        return 0

    return OwnCommand(name="keys", help="make, list, rotate and revoke API keys", add=_add, run=run)


@asynccontextmanager
async def _keys(settings: Settings, migrations: Migrations) -> AsyncIterator[ApiKeys]:
    await migrations.prepare(settings.db_dsn, migrate=settings.migrate)
    async with Database(settings.db_dsn, application_name=f"{settings.service_name} keys") as database:
        yield ApiKeys(database)


async def _act(keys: ApiKeys, arguments: argparse.Namespace) -> None:
    cause = Cause(operator=_who(), reason=getattr(arguments, "reason", ""))
    match arguments.action:
        case "create":
            roles = [Role(role) for role in arguments.role]
            new = NewKey(name=arguments.name, roles=roles, customers=arguments.customer, days=arguments.days)
            _tell(await keys.create(new, cause))
        case "rotate":
            overlap = timedelta(hours=arguments.overlap_hours)
            _tell(await keys.rotate(arguments.id, overlap=overlap, cause=cause))
        case "revoke":
            row = await keys.revoke(arguments.id, cause)
            print(f"key {row['id']} ({row['name']}) is revoked; services notice within 5 seconds")
        case "list":
            _show(await keys.list(before=_NEWEST, limit=_LISTED_MAX), as_json=arguments.json)


def _tell(made: MadeKey) -> None:
    row = made.row
    until = f", until {row['expires_at']:%Y-%m-%d %H:%M} UTC" if row["expires_at"] else ""
    print(f"key {row['id']} ({printable(str(row['name']))}{until}), shown this once:", file=sys.stderr)
    print(made.secret)


def _show(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row, default=str))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "key", "name", "roles", "customers", "state", "expires (UTC)", "last used (UTC)"):
        table.add_column(column, overflow="fold")
    for row in rows:
        times = (f"{row[at]:%Y-%m-%d %H:%M}" if row[at] else "never" for at in ("expires_at", "last_used_at"))
        customers = "all" if row["customers"] is None else ", ".join(row["customers"])
        named = (str(row["id"]), f"{row['hint']}…", row["name"], ", ".join(row["roles"]), customers)
        table.add_row(*(Text(printable(cell)) for cell in (*named, row["state"], *times)))
    Console(width=None if sys.stdout.isatty() else 200).print(table if rows else "no keys")


def _who() -> str:
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):  # a container's user may have no name
        return "command line"


def _add(parser: argparse.ArgumentParser) -> None:
    action = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    create = action.add_parser("create", help="make a key and show it, this once")
    create.add_argument("--name", required=True, type=_name, help="whose it is")
    create.add_argument(
        "--role",
        required=True,
        action="append",
        choices=[str(role) for role in KEY_ROLES],
        help="may be repeated; an admin may all",
    )
    create.add_argument(
        "--customer", action="append", metavar="ID", help="only this customer's orders; may be repeated"
    )
    create.add_argument("--days", type=_number, metavar="N", help="it expires after so many (default: never)")

    listing = action.add_parser("list", help="all of them, newest first")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")

    rotate = action.add_parser("rotate", help="make its successor; the old one stays good for a while")
    rotate.add_argument("id", type=positive, metavar="ID")
    rotate.add_argument(
        "--overlap-hours", type=_number, default=24.0, metavar="N", help="so long (default: 24)"
    )

    revoke = action.add_parser("revoke", help="take it no more")
    revoke.add_argument("id", type=positive, metavar="ID")
    for changing in (create, rotate, revoke):
        changing.add_argument("--reason", default="", help="why, for the audit log")


def _name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("a name has 1 to 100 printable characters")
    return text


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 3650")
    return number
