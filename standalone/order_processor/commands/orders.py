"""`order-processor orders …`"""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from order_processor.commands.cells import amount, moment, status_text, text
from order_processor.commands.exits import ExitCode, Failure
from order_processor.commands.options import Limit, Since, Until
from order_processor.commands.output import new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from rich.table import Table

    from order_processor_client import Order

app = typer.Typer(no_args_is_help=True)

OrderId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]


@app.command()
@remote
def submit(
    session: Session,
    file: Annotated[
        Path | None,
        typer.Argument(
            allow_dash=True, metavar="FILE", help="an order, a JSON array of them, or one a line; - is stdin"
        ),
    ] = None,
    id: Annotated[str | None, typer.Option(help="of the order")] = None,
    customer: Annotated[str | None, typer.Option(help="who orders")] = None,
    item: Annotated[
        list[str] | None, typer.Option(metavar="SKU:QUANTITY:PRICE", help="again for each item")
    ] = None,
) -> None:
    """Submit one order, or many from a file. Doing it again changes nothing."""
    from order_processor.commands import submitting

    if file and not (id or customer or item):
        submitting.submit_file(session, file)
    elif not file and id and customer and item:
        submitting.submit_one(session, submitting.order_of(id, customer, item))
    else:
        raise typer.BadParameter("give either FILE, or --id, --customer and --item")


@app.command()
@remote
def show(
    session: Session,
    id: OrderId,
    timeline: Annotated[bool, typer.Option("--timeline", help="and its way through both services")] = False,
) -> None:
    """Show one order."""
    from order_processor.commands.timeline import show_timeline

    if timeline:
        show_timeline(session.output, session.client.orders.timeline(id))
    else:
        show_order(session, session.client.orders.get(id, with_items=True))


@app.command("list")
@remote
def list_orders(
    session: Session,
    customer: Annotated[str | None, typer.Option(help="of this customer")] = None,
    status: Annotated[str | None, typer.Option(help="pending, done, failed or cancelled")] = None,
    since: Since = None,
    until: Until = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="those that come after this one")] = None,
    limit: Limit = 50,
) -> None:
    """List orders, newest first."""
    found = session.client.orders.list(
        customer_id=customer, status=status, created_from=since, created_to=until, starting_after=after
    )
    if session.output.json:
        session.output.documents(islice(found, limit))
        return
    orders = list(islice(found, limit + 1))
    session.output.show(order_table(orders[:limit]) if orders else "no orders")
    if len(orders) > limit:
        session.output.note(f"there are more: --limit, or --after {orders[limit - 1].order_id}")


@app.command()
@remote
def watch(
    session: Session,
    id: OrderId,
    timeout: Annotated[float | None, typer.Option(min=0, help="in seconds; without, for ever")] = None,
) -> None:
    """Wait until an order is final. Exit code: 0 done, 1 failed or cancelled, 3 still pending."""
    with session.output.notes.status(f"{id} is not final yet") as waiting:
        for order in session.client.orders.watch(id, within_seconds=timeout):
            waiting.update(text(f"{id} is {order.status}, version {order.version}"))
    show_order(session, order)
    if not order.final:
        raise Failure(f"{id} is still pending", ExitCode.UNREACHABLE)
    raise typer.Exit(ExitCode.OK if order.status == "done" else ExitCode.FAILED)


@app.command()
@remote
def cancel(
    session: Session,
    id: OrderId,
    reason: Annotated[str | None, typer.Option(help="why, shown with the order")] = None,
) -> None:
    """Cancel an order that is still pending. Exit code 4 when it was decided before."""
    show_order(session, session.client.orders.cancel(id, reason))


def show_order(session: Session, order: "Order") -> None:
    if session.output.json:
        session.output.document(order)
        return
    session.output.show(order_table([order]))
    if order.items:
        table = new_table("sku", "quantity", "price", right=["quantity", "price"], fold=["sku"])
        for item in order.items:
            table.add_row(text(item.sku), f"{item.quantity:,}", amount(item.price))
        session.output.show("", table)


def order_table(orders: "list[Order]") -> "Table":
    table = new_table(
        "order", "customer", "status", "total", "created (UTC)", "reason",
        right=["total"], fold=["order", "customer", "reason"],
    )  # fmt: skip
    for order in orders:
        table.add_row(
            text(order.order_id),
            text(order.customer_id),
            status_text(order.status),
            amount(order.total_amount),
            moment(order.created_at),
            text(order.fail_reason or order.cancel_reason),
        )
    return table
