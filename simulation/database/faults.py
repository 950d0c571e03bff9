"""What can go wrong between a service and its database, and how often."""

from dataclasses import dataclass
from enum import Enum
from random import Random

import asyncpg


class Fault(Enum):
    """What happens to one statement (BEGIN and COMMIT are statements too)."""

    LOST_BEFORE = "connection lost before it ran"
    LOST_AFTER = "it ran, its answer is lost"
    HALF_OPEN = "connection lost, unnoticed by the server for a while"
    ERROR = "error"
    SLOW = "slow"


_KINDS = tuple(Fault)
_LATENCIES = (0.0, 0.0, 0.001, 0.003)

ERRORS: tuple[type[asyncpg.PostgresError], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
    asyncpg.AdminShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
)


@dataclass(slots=True)
class DatabaseFaults:
    """`statement_rate` of all statements fail in some way, `pause_rate` of all lock steps are interrupted."""

    random: Random
    statement_rate: float = 0.0
    pause_rate: float = 0.0
    slow_seconds_max: float = 40.0

    def quiet(self) -> None:
        self.statement_rate = 0.0

    def of_statement(self) -> Fault | None:
        if not self.statement_rate or self.random.random() >= self.statement_rate:
            return None
        return _KINDS[int(self.random.random() * len(_KINDS))]

    def latency(self) -> float:
        """In whole milliseconds, so that many things fall on the same instant and the loop has to choose."""
        return _LATENCIES[int(self.random.random() * 4)]

    def slowness(self) -> float:
        return self.random.uniform(0.1, self.slow_seconds_max)

    def unnoticed(self) -> float:
        return self.random.uniform(0.1, 20.0)

    def pauses(self) -> bool:
        return self.pause_rate > 0 and self.random.random() < self.pause_rate

    def error(self) -> asyncpg.PostgresError:
        return self.random.choice(ERRORS)("drawn by the simulation")
