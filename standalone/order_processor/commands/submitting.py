"""What `orders submit` does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import chain, islice
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from order_processor.commands.cells import counted, text
from order_processor.commands.exits import ExitCode, Failure
from order_processor.commands.order_files import read_orders
from order_processor.commands.orders import order_table
from order_processor.commands.output import new_table
from order_processor.commands.session import Session
from order_processor_client import BulkResult, ClientError, Item, NewOrder
from service_kit.printable import printable

_SHOWN_REFUSED = 20
_RETRY_SECONDS = 60.0  # a restart of the service should not end a long work


def submit_one(session: Session, order: NewOrder | bytes) -> None:
    created = session.client.orders.create(order)
    if session.output.json:
        session.output.document(created.order)
        return
    session.output.show(order_table([created.order]))
    if created.replayed:
        session.output.note("it was there already, the same: nothing was done")


def submit_file(session: Session, path: Path) -> None:
    file = read_orders(path)
    first = list(islice(file.orders, 2))
    if not first:
        raise Failure(f"there is no order in {path}", ExitCode.USAGE)
    if len(first) == 1:
        submit_one(session, first[0])
    else:
        submit_many(session, chain(first, file.orders), file.count)


def order_of(order_id: str, customer_id: str, items: Sequence[str]) -> NewOrder:
    return NewOrder(order_id=order_id, customer_id=customer_id, items=[_item(item) for item in items])


def submit_many(session: Session, orders: Iterator[bytes], count: int | None) -> None:
    tally = _Tally()
    try:
        with _progress(session) as progress:
            task = progress.add_task("submitting", total=count)
            session.retry_seconds = _RETRY_SECONDS
            session.on_retry = lambda why: progress.update(
                task, description=printable(f"{why}; trying again")
            )
            for result in session.client.orders.bulk(orders):
                tally.add(result)
                if session.output.json:
                    session.output.document(result)
                progress.update(task, advance=1, description="submitting")
    except (ClientError, KeyboardInterrupt):
        session.output.note(f"{tally}, until it was interrupted; do it again, nothing is done twice")
        raise
    if not session.output.json:
        tally.show(session)
    if tally.refused:
        raise typer.Exit(ExitCode.FAILED)


@dataclass(slots=True)
class _Tally:
    accepted: int = 0
    replayed: int = 0
    refused: int = 0
    examples: list[BulkResult] = field(default_factory=list)

    def add(self, result: BulkResult) -> None:
        if result.problem:
            self.refused += 1
            if len(self.examples) < _SHOWN_REFUSED:
                self.examples.append(result)
        elif result.replayed:
            self.replayed += 1
        else:
            self.accepted += 1

    def __str__(self) -> str:
        there = f", {self.replayed:,} there already" if self.replayed else ""
        return f"{counted(self.accepted, 'order')} accepted{there}, {self.refused:,} refused"

    def show(self, session: Session) -> None:
        session.output.show(Text(str(self)))
        if not self.examples:
            return
        table = new_table("position", "why", right=["position"], fold=["why"])
        for result in self.examples:
            table.add_row(f"{result.index + 1:,}", text(result.problem))
        session.output.show(Text(), table)
        if more := self.refused - len(self.examples):
            session.output.show(Text(f"and {more:,} more; --json tells of each"))


def _item(given: str) -> Item:
    sku, *rest = given.rsplit(":", 2)
    try:
        quantity, price = int(rest[0]), Decimal(rest[1])
    except (IndexError, ValueError, InvalidOperation):
        price = Decimal("NaN")
    if not price.is_finite():
        raise typer.BadParameter(f"{given!r} is no item, such as laptop:1:1200.00")
    return Item(sku=sku, quantity=quantity, price=price)


def _progress(session: Session) -> Progress:
    bar = BarColumn(complete_style="cyan", finished_style="green")
    columns = (TextColumn("{task.description}", markup=False), bar, MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=session.output.notes, transient=True)
