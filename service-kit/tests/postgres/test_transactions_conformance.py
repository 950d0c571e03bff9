"""What PostgreSQL's transactions do to each other: the model of the simulation is held to the same suite."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from service_kit.postgres.database import Database
from service_kit.testing.shared_postgres import SharedPostgres
from service_kit.testing.transactions_conformance import SharedDatabase, TransactionsConformance


@pytest.fixture
async def shared(dsn: str, database: Database) -> AsyncIterator[SharedDatabase]:
    observer = await asyncpg.connect(dsn)
    try:
        yield SharedPostgres(database, observer)
    finally:
        observer.terminate()


class TestPostgresTransactions(TransactionsConformance):
    pass
