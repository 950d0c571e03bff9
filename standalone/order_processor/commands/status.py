"""`order-processor status`: is all well?"""

from typing import TYPE_CHECKING

import typer

from order_processor.commands.cells import text
from order_processor.commands.exits import ExitCode
from order_processor.commands.options import ServiceName
from order_processor.commands.session import Session, remote

if TYPE_CHECKING:
    from order_processor.commands.health import Health


@remote
def status(session: Session) -> None:
    """Tell how both services are. Exit code: 0 all is well, 1 something is wrong, 3 one is not reachable."""
    import asyncio

    from order_processor.commands.health import as_json, health_table

    healths = asyncio.run(_healths(session))
    if session.output.json:
        session.output.document({name: as_json(health) for name, health in healths.items()})
    else:
        session.output.show(health_table(healths))
        _show_problems(session, healths)
    if not all(health.reachable for health in healths.values()):
        raise typer.Exit(ExitCode.UNREACHABLE)
    if any([*health.problems()] for health in healths.values()):
        raise typer.Exit(ExitCode.FAILED)


async def _healths(session: Session) -> "dict[ServiceName, Health]":
    import asyncio

    from order_processor.commands.health import health_of

    async with session.impatient_client() as client:
        order, processor = await asyncio.gather(
            health_of(client.order_service), health_of(client.processor_service)
        )
    return {ServiceName.ORDER: order, ServiceName.PROCESSOR: processor}


def _show_problems(session: Session, healths: "dict[ServiceName, Health]") -> None:
    if any([*health.problems()] for health in healths.values()):
        session.output.show("")
    for name, health in healths.items():
        for problem in health.problems():
            session.output.show(text(f"! {name}-service: {problem}", "yellow"))
        if health.readiness and not health.trouble:
            session.output.note(f"{name}-service shows the rest to those who have its key: --key")
