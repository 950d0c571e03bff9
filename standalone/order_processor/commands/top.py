"""`order-processor top`: what goes on, live in the terminal."""

from typing import Annotated

import typer

from order_processor.commands.session import Session, remote


@remote
def top(
    session: Session,
    every: Annotated[float, typer.Option(min=0.2, help="seconds between two looks")] = 1.0,
) -> None:
    """Watch both services: rates, latency, backlog, dependencies, newest problems.

    q or Ctrl-C leaves. Into a pipe, one look is printed; with --json, one a line until it is ended.
    """
    import asyncio
    from contextlib import suppress

    from order_processor.commands.live import look_once, print_lines, show_live

    with suppress(KeyboardInterrupt):
        if session.output.json:
            asyncio.run(print_lines(session, every))
        elif session.output.screen.is_terminal:
            asyncio.run(show_live(session, every))
        else:
            asyncio.run(look_once(session))
