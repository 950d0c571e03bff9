"""`order-processor webhooks …`"""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from order_processor.commands.cells import moment, status_text, text
from order_processor.commands.options import Limit, Since, Yes, confirmed
from order_processor.commands.output import facts_table, new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from order_processor_client.admin_models import WebhookEndpoint

app = typer.Typer(no_args_is_help=True)

EndpointId = Annotated[int, typer.Argument(metavar="ID")]
Why = Annotated[str, typer.Option("--reason", help="why, for the audit log")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="such as order.done; several times; all without")
]
Customers = Annotated[list[str] | None, typer.Option("--customer", help="several times; all without")]
DeliveryStatus = Annotated[
    str | None, typer.Option("--status", help="pending, delivered or failed", show_default=False)
]


@app.command()
@remote
def create(
    session: Session,
    receiver: Annotated[str, typer.Argument(metavar="URL", help="where to deliver")],
    type: Types = None,
    customer: Customers = None,
    description: str = "",
    reason: Why = "",
) -> None:
    """Tell a URL of orders from now on. The secret that signs is shown now and never again."""
    endpoint = session.client.webhooks.create(
        receiver, description=description, event_types=type or (), customer_ids=customer or (), reason=reason
    )
    _show(session, endpoint)


@app.command("list")
@remote
def list_endpoints(session: Session, limit: Limit = 50) -> None:
    """List who is told, newest first."""
    endpoints = list(islice(session.client.webhooks.list(), limit))
    if session.output.json:
        session.output.documents(endpoints)
        return
    table = new_table("id", "enabled", "url", "types", "customers", right=["id"], fold=["url", "customers"])
    for one in endpoints:
        enabled = "yes" if one.enabled else f"no: {one.disabled_because}"
        types, customers = ", ".join(one.event_types), ", ".join(one.customer_ids)
        table.add_row(
            str(one.id), text(enabled), text(one.url), text(types or "all"), text(customers or "all")
        )
    session.output.show(table if endpoints else "no endpoints")


@app.command()
@remote
def enable(session: Session, id: EndpointId, reason: Why = "") -> None:
    """Tell one again, of what happens from now on and of what still waited for it."""
    _show(session, session.client.webhooks.change(id, enabled=True, reason=reason))


@app.command()
@remote
def disable(session: Session, id: EndpointId, reason: Why = "") -> None:
    """Tell one nothing more for now."""
    _show(session, session.client.webhooks.change(id, enabled=False, reason=reason))


@app.command()
@remote
def rotate(
    session: Session,
    id: EndpointId,
    overlap_hours: Annotated[float, typer.Option(min=0, max=168, help="how long both secrets sign")] = 24.0,
    reason: Why = "",
) -> None:
    """Give one a new secret, and show it this once."""
    _show(session, session.client.webhooks.rotate(id, overlap_seconds=overlap_hours * 3600, reason=reason))


@app.command()
@remote
def delete(session: Session, id: EndpointId, reason: Why = "", yes: Yes = False) -> None:
    """Delete one with everything that waits for it."""
    confirmed(f"Delete endpoint {id} and all of its deliveries?", yes)
    session.client.webhooks.delete(id, reason=reason)


@app.command()
@remote
def deliveries(session: Session, id: EndpointId, status: DeliveryStatus = None, limit: Limit = 20) -> None:
    """List what one was told, newest first, and what came of it."""
    table = new_table(
        "id", "event", "order", "status", "attempts", "next (UTC)", "last error",
        right=["id", "attempts"], fold=["order", "last error"],
    )  # fmt: skip
    for one in islice(session.client.webhooks.deliveries(id, status), limit):
        if session.output.json:
            session.output.document(one)
        where = (str(one.id), text(one.event_type), text(one.order_id), status_text(one.status))
        table.add_row(*where, str(one.attempts), moment(one.due_at), text(one.last_error or ""))
    if not session.output.json:
        session.output.show(table if table.row_count else "no deliveries")


@app.command()
@remote
def replay(
    session: Session,
    id: EndpointId,
    delivery: Annotated[list[int] | None, typer.Option(help="its id; several times")] = None,
    status: DeliveryStatus = None,
    since: Since = None,
    reason: Why = "",
) -> None:
    """Deliver again what has ended: these deliveries, or all of a status or since a time."""
    count = session.client.webhooks.replay(
        id, delivery_ids=delivery or None, status=status, since=since, reason=reason
    )
    if session.output.json:
        session.output.document({"replayed": count})
    else:
        session.output.show(f"{count:,} are delivered again")


def _show(session: Session, endpoint: "WebhookEndpoint") -> None:
    from msgspec.structs import asdict

    if session.output.json:
        session.output.document(endpoint)
    else:
        session.output.show(facts_table(asdict(endpoint).items()))
