"""The models in real time and without faults, so that suites written for the real servers run on them."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, cast

from asyncpg.transaction import Transaction

import simulation.database.kit_statements
import simulation.database.order_statements
import simulation.database.processor_statements  # noqa: F401, each registers its statements
from service_kit.broker import PublishOutcome
from service_kit.message import Message
from service_kit.postgres.database import Connection
from simulation.broker.faults import BrokerFaults
from simulation.broker.server import BrokerServer
from simulation.database.client import ModelConnection, ModelDatabase
from simulation.database.faults import DatabaseFaults, Fault
from simulation.database.server import DatabaseServer
from simulation.database.statements import Tables
from simulation.loop import SimulatedLoop
from simulation.trace import Trace


class RealTime:
    """What the models ask of their loop, on the running one. `ahead_seconds` moves their clock on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ahead_seconds = 0.0

    def time(self) -> float:
        return self._loop.time() + self.ahead_seconds

    def create_future(self) -> "asyncio.Future[Any]":
        return self._loop.create_future()

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(callback, *args)

    def later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback, *args)


class Unwatched:
    """Implements Watch for whoever does not look."""

    def published(self, message: Message, outcome: PublishOutcome | None) -> None: ...

    def lost(self, message: Message) -> None: ...

    def acknowledged(self, queue: str, message: Message) -> None: ...


class NextFault(DatabaseFaults):
    """No faults but `next`, which happens once, to the next statement."""

    next: Fault | None = None

    def of_statement(self) -> Fault | None:
        fault, self.next = self.next, None
        return fault


class SharedModel:
    """Implements SharedDatabase and SharedOrders."""

    def __init__(self) -> None:
        self.time = RealTime()
        self.tables = Tables()
        self._faults = NextFault(Random(0), pause_rate=0.2)
        loop = cast(SimulatedLoop, self.time)
        self._server = DatabaseServer(loop, self.tables, self._faults, Trace(keep=False), lambda _: None)
        self.database = ModelDatabase(self._server)

    async def waiting(self) -> int:
        transactions = [session.transaction for session in self._server.sessions.values()]
        return sum(transaction is not None and bool(transaction.waits_for) for transaction in transactions)

    async def pass_time(self, seconds: float) -> None:
        self.time.ahead_seconds += seconds

    async def logged(self) -> list[tuple[str, str, int, str | None]]:
        rows = sorted(self.tables.order_log.committed(), key=lambda row: row["position"])
        return [(row["type"], row["order_id"], row["version"], row["reason"]) for row in rows]

    async def lose(self, connection: Connection) -> None:
        self._server.lose(cast(ModelConnection, connection).session)

    async def commit_unanswered(self, connection: Connection, transaction: Transaction) -> None:
        self._faults.next = Fault.LOST_AFTER
        await transaction.commit()


def model_database(time: RealTime, tables: Tables) -> ModelDatabase:
    loop = cast(SimulatedLoop, time)
    faults = DatabaseFaults(Random(0), pause_rate=0.2)
    return ModelDatabase(DatabaseServer(loop, tables, faults, Trace(keep=False), lambda _: None))


def model_broker_server(time: RealTime) -> BrokerServer:
    return BrokerServer(cast(SimulatedLoop, time), BrokerFaults(Random(0)), Trace(keep=False), Unwatched())
