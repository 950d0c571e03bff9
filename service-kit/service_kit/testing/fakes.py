"""The stores in memory: no server, and the same promises (`*_conformance.py` hold both to them)."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from service_kit.errors import DatabaseUnavailable
from service_kit.failures import DEATH_HEADERS, DeadLetter, FailedEvent, Postponed
from service_kit.message import Delivery
from service_kit.outbox import OutboxBacklog, OutboxEvent, OutboxRow
from service_kit.retry import RetryPolicy


@dataclass(slots=True, kw_only=True)
class WaitingEvent:
    """A row of the outbox, with what a relay is not shown."""

    row: OutboxRow
    created_at: datetime
    due_at: datetime
    claimed: bool = False


@dataclass(slots=True, kw_only=True)
class Retry:
    event: FailedEvent
    first_failed_at: datetime
    due_at: datetime


@dataclass(slots=True, kw_only=True)
class Letter:
    """`row` is there when the letter came from the outbox."""

    letter: DeadLetter
    row: OutboxRow | None = None


class FakeDatabase:
    """The tables of one service. `clock` is its only time; while `available` is False every call fails."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.available = True
        self.outbox: dict[int, WaitingEvent] = {}
        self.inbox: set[str] = set()
        self.retries: dict[int, Retry] = {}
        self.dead_letters: dict[int, Letter] = {}
        self.accepting: dict[str, FakeTransaction] = {}
        self._ids = itertools.count(1)

    def new_id(self) -> int:
        return next(self._ids)

    def after(self, seconds: float) -> datetime:
        return self.clock() + timedelta(seconds=seconds)

    async def answer(self) -> None:
        """Where a real database would be asked: others run meanwhile, and an outage shows."""
        await asyncio.sleep(0)
        if not self.available:
            raise DatabaseUnavailable("database: the fake one is down")

    def add_to_outbox(self, row: OutboxRow) -> None:
        now = self.clock()
        self.outbox[row.id] = WaitingEvent(row=row, created_at=now, due_at=now)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["FakeTransaction"]:
        """Committed at the end, rolled back when an exception leaves it."""
        await self.answer()
        transaction = FakeTransaction(self)
        try:
            yield transaction
            await self.answer()
            transaction.commit()
        finally:
            transaction.end()


class FakeTransaction:
    def __init__(self, database: FakeDatabase) -> None:
        self.database = database
        self.accepted: set[str] = set()
        self.written: list[OutboxEvent] = []
        self.ended = asyncio.Event()

    def commit(self) -> None:
        self.database.inbox |= self.accepted
        for event in self.written:
            self.database.add_to_outbox(_new_row(self.database, event))

    def end(self) -> None:
        for key in self.accepted:
            del self.database.accepting[key]
        self.ended.set()


class FakeInbox:
    """Implements Inbox on a running transaction."""

    def __init__(self, transaction: FakeTransaction) -> None:
        self._transaction = transaction

    async def accept(self, keys: Collection[str]) -> set[str]:
        await self._transaction.database.answer()
        return {key for key in sorted(set(keys)) if await self._accept(key)}

    async def _accept(self, key: str) -> bool:
        """Wait for another transaction that is accepting `key`: whether it commits decides."""
        database, transaction = self._transaction.database, self._transaction
        while (other := database.accepting.get(key)) not in (None, transaction):
            assert other
            await other.ended.wait()
        if key in database.inbox or key in transaction.accepted:
            return False
        database.accepting[key] = transaction
        transaction.accepted.add(key)
        return True


class FakeOutbox:
    """Implements OutboxStore."""

    def __init__(
        self, database: FakeDatabase, *, random: Random, retry_policy: RetryPolicy = RetryPolicy()
    ) -> None:
        self._database = database
        self._random = random
        self._retry_policy = retry_policy

    async def add(self, events: Sequence[OutboxEvent]) -> None:
        async with self._database.transaction() as transaction:
            transaction.written += events

    @asynccontextmanager
    async def claim(
        self, limit: int, *, only: str | None = None, excluding: Collection[str] = ()
    ) -> AsyncIterator["FakeClaim"]:
        await self._database.answer()
        now = self._database.clock()
        waiting = [
            waiting
            for _, waiting in sorted(self._database.outbox.items())
            if not waiting.claimed
            and waiting.due_at <= now
            and only in (None, waiting.row.event_type)
            and waiting.row.event_type not in excluding
        ][:limit]
        for each in waiting:
            each.claimed = True
        rows = [each.row._replace(waited_seconds=(now - each.created_at).total_seconds()) for each in waiting]
        claim = FakeClaim(rows, self._delay_seconds)
        try:
            yield claim
            await self._database.answer()
            self._apply(claim)
        finally:
            for each in waiting:
                each.claimed = False

    async def backlog(self) -> OutboxBacklog:
        await self._database.answer()
        waiting = sorted(self._database.outbox.items())
        oldest = waiting[0][1].created_at if waiting else None
        return OutboxBacklog(pending=len(waiting), oldest_created_at=oldest)

    async def lag_seconds(self) -> float:
        oldest = (await self.backlog()).oldest_created_at
        return (self._database.clock() - oldest).total_seconds() if oldest else 0.0

    def _delay_seconds(self, row: OutboxRow) -> float | None:
        return self._retry_policy.delay_seconds(row.attempts + 1, self._random)

    def _apply(self, claim: "FakeClaim") -> None:
        for id in claim.published:
            del self._database.outbox[id]
        for id, delay_seconds in claim.postponed.items():
            waiting = self._database.outbox[id]
            waiting.row = waiting.row._replace(attempts=waiting.row.attempts + 1)
            waiting.due_at = self._database.after(delay_seconds)
        for id, reason in claim.dead.items():
            _bury_row(self._database, self._database.outbox.pop(id).row, reason)


class FakeClaim:
    """What `settle` was told takes effect when the claim ends well."""

    def __init__(self, rows: Sequence[OutboxRow], delay_seconds: Callable[[OutboxRow], float | None]) -> None:
        self.rows = rows
        self.published: list[int] = []
        self.publish_seconds = 0.0
        self.postponed: dict[int, float] = {}
        self.dead: dict[int, str] = {}
        self._delay_seconds = delay_seconds

    async def settle(
        self, *, published: Collection[int], rejected: Mapping[int, str], publish_seconds: float = 0.0
    ) -> int:
        self.published += published
        self.publish_seconds = publish_seconds
        for row in self.rows:
            if row.id in rejected:
                delay_seconds = self._delay_seconds(row)
                if delay_seconds is None:
                    self.dead[row.id] = rejected[row.id]
                else:
                    self.postponed[row.id] = delay_seconds
        return len(self.dead)


class FakeFailures:
    """Implements FailureStore."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def set_aside(
        self, postponed: Sequence[Postponed], dead: Sequence[FailedEvent], *, ended: Collection[int] = ()
    ) -> None:
        await self._database.answer()
        retries = self._database.retries
        gone = [retries.pop(id) for id in ended if id in retries]
        first_failed_at = {retry.event.event_key: retry.first_failed_at for retry in gone}
        for item in postponed:
            if item.event.event_key not in self._waiting():
                retries[self._database.new_id()] = Retry(
                    event=item.event,
                    first_failed_at=first_failed_at.get(item.event.event_key, self._database.clock()),
                    due_at=self._database.after(item.delay_seconds),
                )
        for failed in dead:
            _bury_event(self._database, failed)

    async def postponed(self, event_keys: Collection[str]) -> set[str]:
        await self._database.answer()
        return self._waiting() & set(event_keys)

    async def lease_due(self, limit: int, *, lease_seconds: float) -> Sequence[Delivery]:
        await self._database.answer()
        now = self._database.clock()
        due = [(id, retry) for id, retry in self._database.retries.items() if retry.due_at <= now]
        leased = sorted(due, key=lambda item: item[1].due_at)[:limit]
        for _, retry in leased:
            retry.due_at = self._database.after(lease_seconds)
        return [_delivery(id, retry.event) for id, retry in leased]

    def _waiting(self) -> set[str]:
        return {retry.event.event_key for retry in self._database.retries.values()}


class FakeDeadLetters:
    """Implements DeadLetters."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def list(self, *, limit: int, after_id: int = 0) -> Sequence[DeadLetter]:
        await self._database.answer()
        letters = sorted(self._database.dead_letters.items())
        return [item.letter for id, item in letters if id > after_id][:limit]

    async def get(self, dead_letter_id: int) -> DeadLetter | None:
        await self._database.answer()
        item = self._database.dead_letters.get(dead_letter_id)
        return item.letter if item else None

    async def replay(self, ids: Collection[int]) -> int:
        taken = await self._take(ids)
        for item in taken:
            if item.row:
                self._database.add_to_outbox(item.row._replace(id=self._database.new_id(), attempts=0))
            else:
                self._retry_now(item.letter)
        return len(taken)

    async def discard(self, ids: Collection[int], *, reason: str) -> int:
        return len(await self._take(ids))

    async def _take(self, ids: Collection[int]) -> Sequence[Letter]:
        await self._database.answer()
        letters = self._database.dead_letters
        return [letters.pop(id) for id in set(ids) if id in letters]

    def _retry_now(self, letter: DeadLetter) -> None:
        now, retries = self._database.clock(), self._database.retries
        for retry in retries.values():
            if retry.event.event_key == letter.event_key:
                retry.event, retry.due_at = replace(retry.event, attempt=0), now
                return
        event = FailedEvent(
            event_key=letter.event_key,
            event_type=letter.event_type,
            body=letter.body,
            message_id=letter.message_id,
            headers={name: value for name, value in letter.headers.items() if name not in DEATH_HEADERS},
            attempt=0,
            reason=letter.reason,
        )
        retries[self._database.new_id()] = Retry(event=event, first_failed_at=now, due_at=now)


def _new_row(database: FakeDatabase, event: OutboxEvent) -> OutboxRow:
    return OutboxRow(
        id=database.new_id(),
        event_type=event.event_type,
        payload=event.payload,
        message_id=str(uuid.uuid4()),
        traceparent=event.traceparent,
        attempts=0,
    )


def _delivery(id: int, event: FailedEvent) -> Delivery:
    return Delivery(
        tag=id,
        routing_key=event.event_type,
        body=event.body,
        message_id=event.message_id,
        headers=event.headers,
        redelivered=True,
        attempt=event.attempt + 1,
        last_error=event.reason,
    )


def _bury_row(database: FakeDatabase, row: OutboxRow, reason: str) -> None:
    letter = DeadLetter(
        id=database.new_id(),
        event_type=row.event_type,
        event_key=f"outbox:{row.message_id}",
        reason=reason,
        attempts=row.attempts + 1,
        times_seen=1,
        body=row.payload,
        message_id=row.message_id,
        headers={"traceparent": row.traceparent} if row.traceparent else {},
        moved_to_dlq_at=database.clock(),
    )
    database.dead_letters[letter.id] = Letter(letter=letter, row=row)


def _bury_event(database: FakeDatabase, failed: FailedEvent) -> None:
    for item in database.dead_letters.values():
        if item.letter.event_key == failed.event_key:
            times_seen = item.letter.times_seen + 1
            item.letter = replace(item.letter, times_seen=times_seen, reason=failed.reason)
            return
    letter = DeadLetter(
        id=database.new_id(),
        event_type=failed.event_type,
        event_key=failed.event_key,
        reason=failed.reason,
        attempts=failed.attempt,
        times_seen=1,
        body=failed.body,
        message_id=failed.message_id,
        headers=failed.headers,
        moved_to_dlq_at=database.clock(),
    )
    database.dead_letters[letter.id] = Letter(letter=letter)
