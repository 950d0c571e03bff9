"""What every command that talks to a deployment is given: the client, and where output goes."""

import functools
import getpass
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, TypedDict

import typer

from order_processor.commands.exits import Failure, endings
from order_processor.commands.output import Output

if TYPE_CHECKING:
    from order_processor_client import AsyncOrderProcessorClient, OrderProcessorClient

_RETRY_SECONDS = 2.0  # somebody waits and looks
_LOOK_SECONDS = 3.0


class Address(TypedDict):
    """What a client is made with."""

    url: str | None
    processor_url: str | None
    key: str | None
    operator: str | None


class Session:
    """The client is made when it is first needed."""

    def __init__(self, address: Address, output: Output) -> None:
        self.address = address
        self.output = output
        self.retry_seconds = _RETRY_SECONDS
        self.on_retry: Callable[[Exception], None] | None = None

    @cached_property
    def client(self) -> "OrderProcessorClient":
        from order_processor_client import OrderProcessorClient

        return OrderProcessorClient(**self.address, retry_seconds=self.retry_seconds, on_retry=self.on_retry)

    def impatient_client(self) -> "AsyncOrderProcessorClient":
        """One for looks at services that may be down: it waits little, and asks once only."""
        from order_processor_client import AsyncOrderProcessorClient

        return AsyncOrderProcessorClient(**self.address, timeout_seconds=_LOOK_SECONDS, retry_seconds=0.0)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


def remote(command: Callable[Concatenate[Session, ...], None]) -> Callable[..., None]:
    """`command` for Typer: with the options that say where the services are, who asks, and how to answer."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = list(inspect.signature(_session).parameters.values())

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        with endings():
            session = _session(**{option.name: arguments.pop(option.name) for option in shared})
            try:
                command(session, **arguments)
            finally:
                session.close()

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


_PANEL = "Deployment and output"


def _session(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="ORDER_PROCESSOR_URL",
            help="of order-service (default: http://127.0.0.1:8000)",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    processor_url: Annotated[
        str | None,
        typer.Option(
            envvar="ORDER_PROCESSOR_PROCESSOR_URL",
            help="of processor-service (default: http://127.0.0.1:8001)",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="ORDER_PROCESSOR_KEY",
            help="better given by the environment: others see command lines",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(help="who asks, for the audit log (default: your user's name)", rich_help_panel=_PANEL),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="one JSON document, or one a line, on stdout", rich_help_panel=_PANEL),
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="as NO_COLOR=1 does", rich_help_panel=_PANEL)
    ] = False,
) -> Session:
    address = Address(url=url, processor_url=processor_url, key=key, operator=operator or _user_name())
    return Session(address, Output(json=json, color=not no_color))


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        raise Failure("your user has no name here: say who asks with --operator") from None
