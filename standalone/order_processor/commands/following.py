"""A replay while it runs: its progress, and Ctrl-C."""

import time

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from order_processor.commands.cells import duration, status_text, text
from order_processor.commands.exits import ExitCode, complain
from order_processor.commands.options import ServiceName
from order_processor.commands.output import facts_table
from order_processor.commands.session import Session
from order_processor_client import ClientError
from order_processor_client.admin_models import Replay

_LOOK_SECONDS = 0.25


def follow(session: Session, service: ServiceName, replay: Replay) -> Replay:
    """Show its progress until it does not run any more.

    Ctrl-C pauses it, since whoever interrupts has seen something: nothing more is replayed behind their back.
    """
    admin = service.of(session.client)
    try:
        with _progress(session) as progress:
            task = progress.add_task(f"replay {replay.id}", total=replay.total, step="", failed="")
            while True:
                progress.update(
                    task,
                    completed=replay.total - replay.remaining,
                    step=f"step {replay.step}" if replay.step else "",
                    failed=f"{replay.failed:,} failed" if replay.failed else "",
                )
                if not replay.running:
                    return replay
                time.sleep(_LOOK_SECONDS)
                replay = admin.replay(replay.id)
    except KeyboardInterrupt:
        _pause(session, service, replay)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except ClientError:
        session.output.note(f"replay {replay.id} goes on; look: {_command('show', service, replay)}")
        raise


def end_of(session: Session, replay: Replay) -> None:
    """Show it; the exit code is 1 when something failed or is left."""
    show_replay(session, replay)
    if not replay.running and (replay.failed or replay.state != "finished"):
        raise typer.Exit(ExitCode.FAILED)


def show_replay(session: Session, replay: Replay) -> None:
    if session.output.json:
        session.output.document(replay)
        return
    took = replay.finished_at - replay.created_at if replay.finished_at and replay.created_at else None
    facts = {
        "replay": replay.id,
        "state": status_text(replay.state),
        "handled": f"{replay.handled:,} of {replay.total:,}",
        "skipped": replay.skipped,
        "failed": text(f"{replay.failed:,}", "red" if replay.failed else ""),
        "remaining": replay.remaining,
        "stopped because": replay.stopped_because,
        "not found": replay.not_found or None,
        "left to other replays": replay.in_other_replays or None,
        "operator": replay.operator,
        "reason": replay.reason,
        "started (UTC)": replay.created_at,
        "took": duration(took.total_seconds()) if took else None,
    }
    session.output.show(facts_table(facts.items()))


def _pause(session: Session, service: ServiceName, replay: Replay) -> None:
    try:
        paused = service.of(session.client).pause_replay(replay.id, "interrupted at the terminal")
    except (ClientError, KeyboardInterrupt) as error:
        complain(f"replay {replay.id} could not be paused and may go on: {error or 'interrupted'}")
        return
    session.output.note(
        f"paused with {paused.remaining:,} of {paused.total:,} left; "
        f"go on: {_command('resume', service, replay)} --reason …"
    )


def _command(what: str, service: ServiceName, replay: Replay) -> str:
    return f"order-processor replays {what} {replay.id} --service {service}"


def _progress(session: Session) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}", style="dim"),
        TextColumn("{task.fields[failed]}", style="red"),
        console=session.output.notes,
        transient=True,
    )
