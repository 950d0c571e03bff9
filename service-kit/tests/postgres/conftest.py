import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from service_kit.postgres import schema
from service_kit.postgres.database import Database
from service_kit.testing.postgres_server import PostgresServer, fresh_database

_SSL_REQUEST = 80877103


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dsn(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database with the kit's tables: one a module, since making one costs more than any test here."""
    async with fresh_database(postgres_server, "service_kit.postgres.schema", create_tables) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """Open, and empty."""
    async with Database(dsn, application_name="tests") as database:
        async with database.connection() as connection:
            await connection.execute(
                "TRUNCATE outbox, publications, processed_inbox, retry_queue, dead_letter_queue, api_keys"
                " RESTART IDENTITY"
            )
        yield database


@pytest.fixture
def refusing_server() -> Callable[[str, str], AbstractAsyncContextManager[str]]:
    return server_that_refuses


async def create_tables(dsn: str) -> None:
    async with (
        Database(dsn, application_name="tests") as database,
        database.transaction() as connection,
    ):
        for statement in (*schema.CREATE_V1, *schema.CREATE_V2, *schema.CREATE_V3, *schema.CREATE_V4):
            await connection.execute(statement)


@asynccontextmanager
async def server_that_refuses(sqlstate: str, text: str) -> AsyncIterator[str]:
    """The DSN of a server that speaks just enough of PostgreSQL's protocol to refuse every login so."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size, code = struct.unpack(">II", await reader.readexactly(8))
            await reader.readexactly(size - 8)
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        fields = b"".join(
            kind + value.encode() + b"\0" for kind, value in ((b"S", "FATAL"), (b"C", sqlstate), (b"M", text))
        )
        writer.write(b"E" + struct.pack(">I", len(fields) + 5) + fields + b"\0")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://me:secret@127.0.0.1:{port}/orders"
