"""`order-processor dead-letters …`"""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from order_processor.commands.cells import count, counted, moment, text
from order_processor.commands.exits import ExitCode
from order_processor.commands.options import (
    EitherService,
    Limit,
    Reason,
    Service,
    ServiceName,
    Since,
    Until,
    Yes,
    confirmed,
)
from order_processor.commands.output import facts_table, new_table
from order_processor.commands.session import Session, remote
from service_kit.printable import printable

if TYPE_CHECKING:
    from order_processor_client import DeadLetterFilter
    from order_processor_client.admin_models import DeadLetter, DeadLetterGroup, Forecast, Selection

app = typer.Typer(no_args_is_help=True)

Ids = Annotated[
    list[int] | None, typer.Argument(metavar="ID...", show_default=False, help="those, or a filter")
]
EventType = Annotated[str | None, typer.Option(help="of this type")]
Group = Annotated[str | None, typer.Option(help="of this group, as `groups` names it")]
Subject = Annotated[str | None, typer.Option(help="about this order")]
All = Annotated[bool, typer.Option("--all", help="all that are there now")]


@app.command("list")
@remote
def list_letters(
    session: Session,
    service: EitherService = None,
    event_type: EventType = None,
    group: Group = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """List what was set aside, newest first."""
    only = _filter(event_type, group, subject, since, until)
    tables: list[Table | str] = []
    more = False
    for name in _each(service):
        found = list(islice(name.of(session.client).dead_letters(only), limit + 1))
        more = more or len(found) > limit
        if session.output.json:
            session.output.documents({"service": name} | _fields(letter) for letter in found[:limit])
        elif found:
            tables.append(_letter_table(name, found[:limit]))
    if not session.output.json:
        session.output.show(*tables or ["no dead letters"])
    if more:
        session.output.note("there are more: --limit, or a filter")


@app.command()
@remote
def groups(session: Session, service: EitherService = None) -> None:
    """Count them by what went wrong."""
    tables: list[Table | str] = []
    for name in _each(service):
        found = name.of(session.client).dead_letter_groups()
        if found.has_more:
            session.output.note(f"{name}-service has more groups: these are the largest")
        if session.output.json:
            session.output.documents({"service": name} | _fields(one) for one in found.groups)
        elif found.groups:
            tables.append(_group_table(name, found.groups))
    if not session.output.json:
        session.output.show(*tables or ["no dead letters"])


@app.command()
@remote
def show(session: Session, id: Annotated[int, typer.Argument(metavar="ID")], service: Service) -> None:
    """Show one, with its body and headers."""
    letter = service.of(session.client).dead_letter(id)
    if session.output.json:
        session.output.document(letter)
        return
    facts = [(f"header {name}", value) for name, value in letter.headers.items()]
    facts = [*_fields(letter).items(), *facts]
    apart = ("body", "body_base64", "headers")
    session.output.show(facts_table((name, value) for name, value in facts if name not in apart), "")
    body = letter.body if letter.body is not None else letter.body_base64
    session.output.show(*(Text(printable(line)) for line in body.split("\n")))


@app.command()
@remote
def forecast(
    session: Session,
    service: Service,
    ids: Ids = None,
    event_type: EventType = None,
    group: Group = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    every: All = False,
) -> None:
    """Tell what a replay would do; nothing is changed."""
    selection = _selection(ids, _filter(event_type, group, subject, since, until), every)
    expected = service.of(session.client).forecast(selection)
    if session.output.json:
        session.output.document(expected)
    else:
        show_forecast(session, expected)


@app.command()
@remote
def replay(
    session: Session,
    service: Service,
    reason: Reason,
    ids: Ids = None,
    event_type: EventType = None,
    group: Group = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    every: All = False,
    per_second: Annotated[float, typer.Option(min=0.01, help="at most so fast")] = 100.0,
    failure_share_max: Annotated[
        float, typer.Option(min=0, max=1, help="stop when more than this fails")
    ] = 0.1,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for its end")] = False,
    yes: Yes = False,
) -> None:
    """Hand them to the service again: forecast, question, then 1, 10, 100 … a step.

    Ctrl-C pauses the replay; `order-processor replays resume` goes on with it.
    """
    from order_processor.commands.following import end_of, follow

    admin = service.of(session.client)
    selection = _selection(ids, _filter(event_type, group, subject, since, until), every)
    if not yes:
        expected = admin.forecast(selection)
        show_forecast(session, expected, on_stderr=True)
        confirmed(f"replay {counted(expected.total, 'dead letter')} of {service}-service?", yes)
    try:
        started = admin.start_replay(
            selection, reason, per_second=per_second, failure_share_max=failure_share_max
        )
    except KeyboardInterrupt:
        session.output.note(
            f"it may have begun and go on; look: order-processor replays list --service {service}"
        )
        raise
    end_of(session, started if detach else follow(session, service, started))


@app.command()
@remote
def discard(
    session: Session,
    service: Service,
    reason: Reason,
    ids: Ids = None,
    event_type: EventType = None,
    group: Group = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    every: All = False,
    yes: Yes = False,
) -> None:
    """Delete them for good; who, when and why stays in the audit log."""
    admin = service.of(session.client)
    selection = _selection(ids, _filter(event_type, group, subject, since, until), every)
    if not yes:
        total = admin.forecast(selection).total
        confirmed(f"delete {counted(total, 'dead letter')} of {service}-service for good?", yes)
    discarded = admin.discard(selection, reason)
    if session.output.json:
        session.output.document({"discarded": discarded})
    else:
        session.output.show(f"{discarded:,} discarded")
    if ids and discarded < len(set(ids)):
        session.output.note(f"{len(set(ids)) - discarded:,} were not there")
        raise typer.Exit(ExitCode.CONFLICT)


def show_forecast(session: Session, expected: "Forecast", *, on_stderr: bool = False) -> None:
    screen = session.output.notes if on_stderr else session.output.screen
    for number, words, style in (
        (expected.will_run, "will run", "green"),
        (expected.already_processed, "will be skipped: already processed", ""),
        (expected.will_fail_again, "will fail again", "red" if expected.will_fail_again else ""),
        (expected.unexamined, "were not looked at: they are too many", "yellow"),
    ):
        if not number and words.startswith("were not"):
            continue
        screen.print(text(f"{number:>9,}  {words}", style))
    if expected.examples:
        table = new_table("id", "forecast", "why", right=["id"], fold=["why"])
        for example in expected.examples:
            table.add_row(str(example.id), text(example.forecast.replace("_", " ")), text(example.why))
        screen.print()
        screen.print(table)


def _letter_table(service: ServiceName, letters: "Sequence[DeadLetter]") -> Table:
    table = new_table("id", "moved (UTC)", "event", "about", "reason",
                      right=["id"], fold=["about", "reason"], title=f"{service}-service")  # fmt: skip
    for letter in letters:
        about = text(letter.subject)  # what is no event has none, and a long hash for its key
        what = (moment(letter.moved_at), text(letter.event_type), about, text(letter.reason))
        table.add_row(str(letter.id), *what)
    return table


def _group_table(service: ServiceName, groups: "Sequence[DeadLetterGroup]") -> Table:
    table = new_table("group", "count", "event", "last (UTC)", "reason",
                      right=["count"], fold=["reason"], title=f"{service}-service")  # fmt: skip
    for one in groups:
        what = (count(one.count), text(one.event_type), moment(one.last_at), text(one.reason))
        table.add_row(text(one.group), *what)
    return table


def _each(service: ServiceName | None) -> list[ServiceName]:
    return [service] if service else list(ServiceName)


def _filter(
    event_type: str | None,
    group: str | None,
    subject: str | None,
    since: datetime | None,
    until: datetime | None,
) -> "DeadLetterFilter":
    from order_processor_client import DeadLetterFilter

    return DeadLetterFilter(event_type=event_type, group=group, subject=subject, since=since, until=until)


def _selection(ids: list[int] | None, only: "DeadLetterFilter", every: bool) -> "Selection":
    """Exactly one way to say which: a filter that says nothing would be all of them."""
    filtered = only != type(only)()
    if [bool(ids), filtered, every].count(True) != 1:
        raise typer.BadParameter("say which: by ids, or by a filter, or --all")
    return ids if ids else only


def _fields(struct: object) -> dict[str, object]:
    from msgspec.structs import asdict

    return asdict(struct)  # type: ignore[arg-type]
