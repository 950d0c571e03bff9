"""The fakes keep the promises that the real stores keep (`tests/postgres/test_store_conformance.py`)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from service_kit.outbox import OutboxEvent
from service_kit.testing.dead_letters_conformance import DeadLettersConformance
from service_kit.testing.failures_conformance import FailuresConformance
from service_kit.testing.fakes import FakeDatabase, FakeDeadLetters, FakeFailures, FakeInbox, FakeOutbox
from service_kit.testing.inbox import Inbox
from service_kit.testing.inbox_conformance import InboxConformance
from service_kit.testing.outbox_conformance import OutboxConformance
from service_kit.testing.stores_conformance import RETRY_POLICY
from service_kit.testing.virtual_time import loop_clock


class FakeStores:
    def __init__(self) -> None:
        self._database = FakeDatabase(loop_clock)
        self.outbox = FakeOutbox(self._database, random=Random(0), retry_policy=RETRY_POLICY)
        self.failures = FakeFailures(self._database)
        self.dead_letters = FakeDeadLetters(self._database)

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        async with self._database.transaction() as transaction:
            yield FakeInbox(transaction)

    async def add_to_outbox(self, *events: OutboxEvent) -> None:
        await self.outbox.add(events)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def seconds_since_first_failure(self, event_key: str) -> float:
        (first_failed_at,) = (
            retry.first_failed_at
            for retry in self._database.retries.values()
            if retry.event.event_key == event_key
        )
        return (loop_clock() - first_failed_at).total_seconds()


@pytest.fixture
async def stores() -> FakeStores:
    return FakeStores()


class TestFakeOutbox(OutboxConformance):
    pass


class TestFakeInbox(InboxConformance):
    pass


class TestFakeFailures(FailuresConformance):
    pass


class TestFakeDeadLetters(DeadLettersConformance):
    pass
