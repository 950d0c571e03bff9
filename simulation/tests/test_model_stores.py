"""The model database does what PostgreSQL does (`service-kit/tests/postgres/test_store_conformance.py`).

The same adapters send the same statements to both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from service_kit.outbox import OutboxEvent
from service_kit.postgres.dead_letters import PostgresDeadLetters
from service_kit.postgres.failures import PostgresFailures
from service_kit.postgres.outbox import PostgresOutbox, add_to_outbox
from service_kit.testing.dead_letters_conformance import DeadLettersConformance
from service_kit.testing.failures_conformance import FailuresConformance
from service_kit.testing.inbox import Inbox, PostgresInbox
from service_kit.testing.inbox_conformance import InboxConformance
from service_kit.testing.outbox_conformance import OutboxConformance
from service_kit.testing.stores_conformance import RETRY_POLICY
from simulation.database.statements import Tables
from simulation.tests.models import RealTime, model_database


class ModelStores:
    """The adapters of PostgreSQL, on the model."""

    def __init__(self) -> None:
        self._time = RealTime()
        self._tables = Tables()
        self._database = model_database(self._time, self._tables)
        self.outbox = PostgresOutbox(self._database, random=Random(0), retry_policy=RETRY_POLICY)
        self.failures = PostgresFailures(self._database)
        self.dead_letters = PostgresDeadLetters(self._database)

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        async with self._database.transaction() as connection:
            yield PostgresInbox(connection)

    async def add_to_outbox(self, *events: OutboxEvent) -> None:
        async with self._database.transaction() as connection:
            await add_to_outbox(connection, events)

    async def pass_time(self, seconds: float) -> None:
        self._time.ahead_seconds += seconds

    async def seconds_since_first_failure(self, event_key: str) -> float:
        values = self._tables.retries.rows[event_key].values
        assert values is not None
        first_failed_at: float = values["first_failed_at"]
        return self._time.time() - first_failed_at


@pytest.fixture
async def stores() -> ModelStores:
    return ModelStores()


class TestModelOutbox(OutboxConformance):
    pass


class TestModelInbox(InboxConformance):
    pass


class TestModelFailures(FailuresConformance):
    pass


class TestModelDeadLetters(DeadLettersConformance):
    pass
