"""`order-processor audit`: what operators did."""

import heapq
from itertools import islice
from typing import TYPE_CHECKING

from order_processor.commands.cells import moment, text
from order_processor.commands.options import EitherService, Limit, ServiceName
from order_processor.commands.output import new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from order_processor_client.admin_models import AuditEntry


@remote
def audit(session: Session, service: EitherService = None, limit: Limit = 50) -> None:
    """List what operators did to either service, newest first: who, what, when, why."""
    from msgspec.structs import asdict

    table = new_table("at (UTC)", "service", "who", "what", "on", "why", fold=["who", "on", "why"])
    for name, entry in islice(_newest_first(session, service), limit):
        if session.output.json:
            session.output.document({"service": name} | asdict(entry))
        what = (text(entry.operator), text(entry.action), text(entry.target), text(entry.reason))
        table.add_row(moment(entry.at), name, *what)
    if not session.output.json:
        session.output.show(table if table.row_count else "no entries")


def _newest_first(
    session: Session, service: ServiceName | None
) -> "Iterator[tuple[ServiceName, AuditEntry]]":
    logs = [_named(session, name) for name in ([service] if service else ServiceName)]
    return heapq.merge(*logs, key=lambda named: named[1].at, reverse=True)


def _named(session: Session, name: ServiceName) -> "Iterator[tuple[ServiceName, AuditEntry]]":
    return ((name, entry) for entry in name.of(session.client).audit())
