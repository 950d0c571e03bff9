"""PostgreSQL as the suites of `transactions_conformance.py` and the like ask for it."""

import asyncio

import asyncpg
from asyncpg.transaction import Transaction

from service_kit.postgres.database import Connection, Database

WAITING = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""

# With a deadline, so that it returns when the process of the connection has gone.
TERMINATE = "SELECT pg_terminate_backend($1, 10000)"


class SharedPostgres:
    """Implements SharedDatabase; `observer` is a connection beside those of `database`."""

    def __init__(self, database: Database, observer: asyncpg.Connection) -> None:
        self.database = database
        self._observer = observer

    async def waiting(self) -> int:
        count: int = await self._observer.fetchval(WAITING)
        return count

    async def lose(self, connection: Connection) -> None:
        await self._observer.execute(TERMINATE, connection.get_server_pid())

    async def commit_unanswered(self, connection: Connection, transaction: Transaction) -> None:
        commit = asyncio.create_task(transaction.commit())
        await asyncio.sleep(0)  # it is on its way
        connection.terminate()
        await commit
