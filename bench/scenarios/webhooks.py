"""What webhooks do to the intake at its limit: none, a good receiver and a hostile one, in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.generator import load
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.servers import Servers
from bench.stage import stage
from order_service.infrastructure.webhook_store import PostgresWebhooks
from service_kit.postgres.audit import Cause
from service_kit.postgres.database import Database

CONNECTIONS = 64
_TURNS = ("none", "good", "hostile", "hostile", "good", "none")
"""There and back, so that a machine that gets faster or slower favours none."""
_NOTICED_SECONDS = 3.0
"""A service looks for new endpoints once a second."""


async def run(bench: Bench) -> Figures:
    """`share`: the orders a second with a hostile receiver, as a share of those with a good one."""
    rates: dict[str, list[float]] = {"none": [], "good": [], "hostile": []}
    for receiver in _TURNS:
        bench.tell(f"webhooks: {receiver}")
        rates[receiver].append(await _at_its_limit(bench.servers, bench.lengths, receiver))
    return {**rates, "share": sum(rates["hostile"]) / sum(rates["good"])}


async def _at_its_limit(servers: Servers, lengths: Lengths, receiver: str) -> float:
    settings = {"APP__WEBHOOKS_ALLOW_PRIVATE": "true"}
    async with (
        _listening(hostile=receiver == "hostile") as listening,
        stage(servers, broker_away=True, settings=settings) as staged,
    ):
        await staged.listening(staged.order)
        if receiver != "none":
            async with Database(staged.orders_dsn, application_name="bench") as database:
                cause = Cause(operator="bench", reason="to measure")
                await PostgresWebhooks(database).create(listening.url, "", [], [], b"x" * 32, cause)
            await asyncio.sleep(_NOTICED_SECONDS)
        spec = staged.spec(connections=CONNECTIONS, seconds=lengths.intake_seconds, prefix=f"w{receiver[:3]}")
        result = await load(spec)
    if set(result.statuses) != {"201"}:
        raise RuntimeError(f"not every order was accepted: {result.statuses}")
    if bool(listening.came) != (receiver != "none"):
        raise RuntimeError(f"{listening.came} deliveries came, receiver: {receiver}")
    return result.rate


@dataclass(slots=True)
class _Receiver:
    """`came`: deliveries, whole."""

    url: str = ""
    came: int = 0


@asynccontextmanager
async def _listening(*, hostile: bool) -> AsyncIterator[_Receiver]:
    """A receiver that takes every delivery, or one that reads it and never answers."""

    receiver = _Receiver()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                receiver.came += 1
                if hostile:
                    await reader.read()  # until the client gives up
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    try:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield receiver
    finally:
        server.close()


SCENARIO = Scenario(
    name="webhooks",
    story="POST at 64 connections without webhooks, with a good receiver and with a hostile one, in turn",
    run=run,
    seconds=lambda lengths: len(_TURNS) * (lengths.intake_seconds + 7),
    by_default=False,
)
