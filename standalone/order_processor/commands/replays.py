"""`order-processor replays …`"""

from itertools import islice
from typing import Annotated

import typer

from order_processor.commands.cells import count, moment, status_text, text
from order_processor.commands.options import EitherService, Limit, Reason, Service, ServiceName
from order_processor.commands.output import new_table
from order_processor.commands.session import Session, remote

app = typer.Typer(no_args_is_help=True)

ReplayId = Annotated[int, typer.Argument(metavar="ID")]


@app.command("list")
@remote
def list_replays(session: Session, service: EitherService = None, limit: Limit = 20) -> None:
    """List replays of dead letters, newest first."""
    from msgspec.structs import asdict

    table = new_table(
        "service", "id", "state", "handled", "failed", "started (UTC)", "reason",
        right=["id", "handled", "failed"], fold=["reason"],
    )  # fmt: skip
    for name in [service] if service else ServiceName:
        for replay in islice(name.of(session.client).replays(), limit):
            if session.output.json:
                session.output.document({"service": name} | asdict(replay))
            handled = f"{replay.handled:,} of {replay.total:,}"
            why = (count(replay.failed), moment(replay.created_at), text(replay.reason))
            table.add_row(name, str(replay.id), status_text(replay.state), handled, *why)
    if not session.output.json:
        session.output.show(table if table.row_count else "no replays")


@app.command()
@remote
def show(session: Session, id: ReplayId, service: Service) -> None:
    """Show how far one is."""
    from order_processor.commands.following import show_replay

    show_replay(session, service.of(session.client).replay(id))


@app.command()
@remote
def pause(session: Session, id: ReplayId, service: Service, reason: Reason) -> None:
    """Pause one after the step in hand."""
    from order_processor.commands.following import show_replay

    show_replay(session, service.of(session.client).pause_replay(id, reason))


@app.command()
@remote
def resume(
    session: Session,
    id: ReplayId,
    service: Service,
    reason: Reason,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for its end")] = False,
) -> None:
    """Go on with one that was paused, or that stopped since too much failed. Ctrl-C pauses it again."""
    from order_processor.commands.following import end_of, follow

    resumed = service.of(session.client).resume_replay(id, reason)
    end_of(session, resumed if detach else follow(session, service, resumed))


@app.command()
@remote
def cancel(session: Session, id: ReplayId, service: Service, reason: Reason) -> None:
    """End one for good; what it has not come to stays where it is."""
    from order_processor.commands.following import show_replay

    show_replay(session, service.of(session.client).cancel_replay(id, reason))
