"""`order-processor rules …`: what decides about orders, and what other rules would."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from order_processor.commands.cells import counted, text
from order_processor.commands.exits import ExitCode, Failure
from order_processor.commands.options import Reason
from order_processor.commands.output import facts_table, new_table
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from order_processor_client.admin_models import Rehearsal, Ruleset

app = typer.Typer(no_args_is_help=True)

File = Annotated[Path, typer.Argument(allow_dash=True, metavar="FILE", help="rules in TOML; - is stdin")]


@app.command()
@remote
def show(session: Session) -> None:
    """Show what decides now."""
    _show(session, session.client.processor_service.rules())


@app.command()
@remote
def check(session: Session, file: File) -> None:
    """Check a file of rules; nothing is changed. Exit code 1 when something is wrong with it."""
    _show(session, session.client.processor_service.check_rules(_text_of(file)))


@app.command()
@remote
def rehearse(
    session: Session,
    file: File,
    last: Annotated[int, typer.Option(min=1, help="so many of the newest orders")] = 10_000,
) -> None:
    """Tell what a file of rules would have decided otherwise about past orders; nothing is changed."""
    rehearsal = session.client.processor_service.rehearse_rules(_text_of(file), last=last)
    if session.output.json:
        session.output.document(rehearsal)
    else:
        _show_rehearsal(session, rehearsal)


@app.command()
@remote
def reload(session: Session, reason: Reason) -> None:
    """Put the file of APP__RULES_FILE in force as it is now, without a restart."""
    _show(session, session.client.processor_service.reload_rules(reason))


def _text_of(file: Path) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        return raw.decode()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", ExitCode.USAGE) from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8: {error.reason} at byte {error.start}", ExitCode.USAGE) from error


def _show(session: Session, ruleset: "Ruleset") -> None:
    if session.output.json:
        session.output.document(ruleset)
        return
    facts = {
        "policy": ruleset.policy,
        "version": ruleset.version,
        "from": ruleset.source,
        "in force since (UTC)": ruleset.loaded_at,
        "success rate": ruleset.success_rate,
    }
    session.output.show(facts_table(facts.items()))
    if ruleset.rules:
        table = new_table("rule", "fail reason", "skus", right=["rule"], fold=["skus", "fail reason"])
        for number, rule in enumerate(ruleset.rules, start=1):
            table.add_row(str(number), text(rule.fail_reason), text(", ".join(rule.skus)))
        session.output.show(Text(), table)
    if ruleset.problem:
        session.output.show(text(f"! {ruleset.problem}", "yellow"))


def _show_rehearsal(session: Session, rehearsal: "Rehearsal") -> None:
    orders = counted(rehearsal.orders, "order")
    session.output.show(
        text(f"{orders} looked at: {rehearsal.unchanged:,} unchanged, {rehearsal.changed:,} changed")
    )
    if not rehearsal.changes:
        return
    table = new_table("orders", "decided", "would be", "for example", right=["orders"],
                      fold=["decided", "would be", "for example"])  # fmt: skip
    for change in rehearsal.changes:
        examples = Text("\n").join(text(example.order_id) for example in change.examples[:3])
        table.add_row(f"{change.count:,}", text(change.before), text(change.after), examples)
    session.output.show(Text(), table)
