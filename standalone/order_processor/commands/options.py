"""Options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from order_processor.commands.exits import ExitCode, Failure

if TYPE_CHECKING:
    from order_processor_client.sync_client import (
        OrderProcessorClient,
        OrderServiceAdmin,
        ProcessorServiceAdmin,
    )

_AGO = re.compile(r"(\d{1,9})\s*(s|m|min|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class ServiceName(StrEnum):
    ORDER = "order"
    PROCESSOR = "processor"

    def of(self, client: "OrderProcessorClient") -> "OrderServiceAdmin | ProcessorServiceAdmin":
        return client.order_service if self is ServiceName.ORDER else client.processor_service


def moment(given: str) -> datetime:
    """`15m`, `2h` or `3d` ago, or a date and time; in UTC when it says no zone."""
    if match := _AGO.fullmatch(given.strip()):
        number, unit = match.groups()
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[unit]: int(number)})
        except OverflowError:
            raise typer.BadParameter(f"{given!r} is before all time") from None
    try:
        at = datetime.fromisoformat(given.strip())
    except ValueError:
        words = f"{given!r} is no time: write 15m, 2h or 3d (ago), or 2026-11-24T14:00"
        raise typer.BadParameter(words) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def confirmed(question: str, yes: bool) -> None:
    """Return when the answer is yes. Raises Failure, or BadParameter where there is nobody to ask."""
    if yes:
        return
    if not typer.get_text_stream("stdin").isatty():
        raise typer.BadParameter("nobody is here to be asked: say --yes")
    if not typer.confirm(question, err=True):
        raise Failure("nothing was done", ExitCode.FAILED)


Service = Annotated[ServiceName, typer.Option(help="whose", show_default=False)]
EitherService = Annotated[ServiceName | None, typer.Option("--service", help="of one of them only")]
Reason = Annotated[str, typer.Option(help="why, for the audit log", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
Limit = Annotated[int, typer.Option(min=1, help="at most so many")]
Since = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help="15m, 2h or 3d ago, or a date and time")
]
Until = Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="likewise")]
