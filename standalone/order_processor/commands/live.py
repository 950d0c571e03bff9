"""The loops of `top`: look at both services, show it, and wait for the next look or for q."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TypeVar

from rich.live import Live

from order_processor.commands.board import Board, board_as_json, board_view
from order_processor.commands.health import health_of
from order_processor.commands.options import ServiceName
from order_processor.commands.session import Session
from order_processor_client import AsyncOrderProcessorClient, ClientError
from order_processor_client.admin_models import DeadLetterGroup
from order_processor_client.async_client import AsyncServiceAdmin

T = TypeVar("T")

_FLOW_SECONDS = 120


async def show_live(session: Session, every: float) -> None:
    """Until q is typed."""
    screen = session.output.screen
    async with session.impatient_client() as client:
        with _q_typed() as leave, Live(console=screen, screen=True, auto_refresh=False) as live:
            while not leave.is_set():
                board = await _look(client)
                live.update(board_view(board, screen.width, screen.height), refresh=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(leave.wait(), every)


async def print_lines(session: Session, every: float) -> None:
    async with session.impatient_client() as client:
        while True:
            session.output.documents([board_as_json(await _look(client))])
            await asyncio.sleep(every)


async def look_once(session: Session) -> None:
    async with session.impatient_client() as client:
        session.output.show(board_view(await _look(client), session.output.screen.width, None))


@contextmanager
def _q_typed() -> Iterator[asyncio.Event]:
    """An event that is set when somebody types q; keys are read one by one, and not shown."""
    typed = asyncio.Event()
    if not sys.stdin.isatty():
        yield typed
        return
    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def read() -> None:
        if os.read(keyboard, 1) in (b"q", b"Q", b""):
            typed.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    try:
        yield typed
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


async def _look(client: AsyncOrderProcessorClient) -> Board:
    order, processor = client.order_service, client.processor_service
    order_health, processor_health, flow, stuck, theirs, ours = await asyncio.gather(
        health_of(order),
        health_of(processor),
        _or_none(order.flow(_FLOW_SECONDS)),
        _or_none(order.stuck_orders(5)),
        _groups(ServiceName.PROCESSOR, processor),
        _groups(ServiceName.ORDER, order),
    )
    return Board(
        at=datetime.now(UTC),
        healths={ServiceName.ORDER: order_health, ServiceName.PROCESSOR: processor_health},
        flow=flow,
        stuck=stuck,
        groups=sorted([*theirs, *ours], key=lambda named: named[1].last_at, reverse=True),
    )


async def _groups(name: ServiceName, admin: AsyncServiceAdmin) -> list[tuple[ServiceName, DeadLetterGroup]]:
    found = await _or_none(admin.dead_letter_groups())
    return [(name, group) for group in found.groups] if found else []


async def _or_none(asking: Awaitable[T]) -> T | None:
    """What is not to be had is left out: that something is wrong is told by the service's health."""
    try:
        return await asking
    except ClientError:
        return None
