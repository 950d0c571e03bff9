"""`order-processor keys …`"""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from order_processor.commands.cells import moment, text
from order_processor.commands.options import Limit, Reason, ServiceName
from order_processor.commands.output import new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from order_processor_client.admin_models import MadeApiKey

app = typer.Typer(no_args_is_help=True)

KeyId = Annotated[int, typer.Argument(metavar="ID")]
Whose = Annotated[ServiceName, typer.Option("--service", help="whose")]


@app.command("list")
@remote
def list_keys(session: Session, service: Whose = ServiceName.ORDER, limit: Limit = 100) -> None:
    """List API keys, newest first: what each may, and when it was last used."""
    from msgspec.structs import asdict

    table = new_table(
        "id", "key", "name", "roles", "customers", "state", "expires (UTC)", "last used (UTC)",
        right=["id"], fold=["name", "roles", "customers"],
    )  # fmt: skip
    for key in islice(service.of(session.client).keys(), limit):
        if session.output.json:
            session.output.document(asdict(key))
        customers = "all" if key.customers is None else ", ".join(key.customers)
        may = (text(", ".join(key.roles)), text(customers), text(key.state))
        times = (moment(key.expires_at), moment(key.last_used_at))
        table.add_row(str(key.id), text(f"{key.hint}…"), text(key.name), *may, *times)
    if not session.output.json:
        session.output.show(table if table.row_count else "no keys")


@app.command()
@remote
def create(
    session: Session,
    name: Annotated[str, typer.Option(help="whose it is", show_default=False)],
    role: Annotated[
        list[str], typer.Option(help="orders:read, orders:write or admin; repeatable", show_default=False)
    ],
    reason: Reason,
    customer: Annotated[list[str] | None, typer.Option(help="only this one's orders; repeatable")] = None,
    days: Annotated[float | None, typer.Option(help="it expires after so many (default: never)")] = None,
    service: Whose = ServiceName.ORDER,
) -> None:
    """Make a key and show it, this once."""
    admin = service.of(session.client)
    _show(session, admin.create_key(name, role, reason, customers=customer or None, days=days))


@app.command()
@remote
def rotate(
    session: Session,
    id: KeyId,
    reason: Reason,
    overlap_hours: Annotated[float, typer.Option(help="so long the old one is good")] = 24.0,
    service: Whose = ServiceName.ORDER,
) -> None:
    """Make a key's successor and show it, this once."""
    _show(session, service.of(session.client).rotate_key(id, reason, overlap_hours=overlap_hours))


@app.command()
@remote
def revoke(session: Session, id: KeyId, reason: Reason, service: Whose = ServiceName.ORDER) -> None:
    """Take a key no more."""
    from msgspec.structs import asdict

    key = service.of(session.client).revoke_key(id, reason)
    if session.output.json:
        session.output.document(asdict(key))
    else:
        session.output.show(f"key {key.id} is revoked; processes notice within 5 seconds")


def _show(session: Session, made: "MadeApiKey") -> None:
    """The key alone on stdout, so that a script can take it."""
    from msgspec.structs import asdict

    if session.output.json:
        session.output.document(asdict(made))
    else:
        typer.echo(f"key {made.key.id}, shown this once:", err=True)
        typer.echo(made.secret)
