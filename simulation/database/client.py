"""The client's side: what the real adapters take for their `Database`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from service_kit.postgres.database import Connection, Database, outages
from simulation.database.arguments import check_encodable
from simulation.database.server import DatabaseServer, Session
from simulation.loop import OWNER


class ModelDatabase(Database):
    """Connections to a `DatabaseServer`; errors are classified by the code that does so in production."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._where = f"the model of {server.name}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        with outages(self._where):
            server = self._server
            if not server.up:
                await asyncio.sleep(server.faults.latency())
                raise ConnectionRefusedError("connection refused")
            session = server.connect(OWNER.get())
            try:
                yield cast(Connection, ModelConnection(server, session))
            finally:
                server.reset(session)

    async def open_connections(self, count: int) -> None: ...


class ModelConnection:
    """As much of a connection of asyncpg as the adapters use."""

    __slots__ = ("_depth", "_server", "session")

    def __init__(self, server: DatabaseServer, session: Session) -> None:
        self._server = server
        self.session = session
        self._depth = 0

    async def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], await self._ask(sql, arguments))

    async def fetchrow(self, sql: str, *arguments: Any) -> dict[str, Any] | None:
        records = await self.fetch(sql, *arguments)
        return records[0] if records else None

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        record = await self.fetchrow(sql, *arguments)
        return next(iter(record.values())) if record else None

    async def execute(self, sql: str, *arguments: Any) -> str:
        await self._ask(sql, arguments)
        return "DONE"

    def transaction(self) -> "ModelTransaction":
        return ModelTransaction(self)

    def is_in_transaction(self) -> bool:
        return self._depth > 0

    def terminate(self) -> None:
        self._server.lose(self.session)

    async def _ask(self, what: str, arguments: tuple[Any, ...] = ()) -> Any:
        session = self.session
        if session.lost:
            raise ConnectionResetError("the connection is closed")
        check_encodable(arguments)
        request = self._server.send(session, what, arguments)
        try:
            return await request.answer
        except asyncio.CancelledError:
            self._server.cancel(request)
            raise


class ModelTransaction:
    """A transaction, or a savepoint within one, as asyncpg has them."""

    __slots__ = ("_connection", "_savepoint")

    def __init__(self, connection: ModelConnection) -> None:
        self._connection = connection
        self._savepoint: tuple[str, ...] = ()

    async def start(self) -> None:
        connection = self._connection
        if connection._depth:
            self._savepoint = (f"savepoint {connection._depth}",)
        await connection._ask("SAVEPOINT" if self._savepoint else "BEGIN", self._savepoint)
        connection._depth += 1

    async def commit(self) -> None:
        await self._end("RELEASE" if self._savepoint else "COMMIT")

    async def rollback(self) -> None:
        await self._end("ROLLBACK TO" if self._savepoint else "ROLLBACK")

    async def _end(self, word: str) -> None:
        self._connection._depth -= 1
        await self._connection._ask(word, self._savepoint)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.commit() if kind is None else self.rollback())
