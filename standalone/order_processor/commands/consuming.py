"""`order-processor consuming …`"""

from typing import TYPE_CHECKING

import typer

from order_processor.commands.cells import moment, text
from order_processor.commands.options import EitherService, Reason, Service, ServiceName
from order_processor.commands.output import new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from order_processor_client.admin_models import Consuming

app = typer.Typer(no_args_is_help=True)


@app.command()
@remote
def status(session: Session, service: EitherService = None) -> None:
    """Tell whether events are taken from the queues."""
    names = [service] if service else list(ServiceName)
    _show(session, {name: name.of(session.client).state().consuming for name in names})


@app.command()
@remote
def pause(session: Session, service: Service, reason: Reason) -> None:
    """Take no more events from the queue, in all instances of a service. They wait; nothing is lost."""
    _show(session, {service: service.of(session.client).pause_consuming(reason)})


@app.command()
@remote
def resume(session: Session, service: Service, reason: Reason) -> None:
    """Take events from the queue again."""
    _show(session, {service: service.of(session.client).resume_consuming(reason)})


def _show(session: Session, states: "dict[ServiceName, Consuming]") -> None:
    from order_processor.commands.health import consuming_text

    if session.output.json:
        session.output.document(states)
        return
    table = new_table("service", "consuming", "since (UTC)", "by", "reason", fold=["by", "reason"])
    for name, state in states.items():
        table.add_row(name, consuming_text(state), moment(state.since), text(state.by), text(state.reason))
    session.output.show(table)
