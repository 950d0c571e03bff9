"""A transaction as use cases see it: rolled back unless committed."""

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Self

from service_kit import failpoints
from service_kit.postgres.database import Connection, Database


class PostgresUnitOfWork(ABC):
    """Each `async with` is a new transaction, on a connection of the pool. Not for concurrent use.

    Raises DatabaseUnavailable; when the COMMIT was sent and its answer lost, it may have happened.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Bind the repositories to the transaction that has just begun on `connection`."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._database.connection())
            self._transaction = connection.transaction()
            await self._transaction.start()
            self._ended = False
            stack.push_async_exit(self._roll_back)
            self._stack = stack.pop_all()
        self.begin(connection)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.__aexit__(*exception)  # type: ignore[arg-type]

    async def commit(self) -> None:
        self._ended = True
        failpoints.passed("unit_of_work.uncommitted")
        await self._transaction.commit()
        failpoints.passed("unit_of_work.committed")

    async def _roll_back(self, *_: object) -> None:
        if not self._ended:
            self._ended = True
            await self._transaction.rollback()
