"""What transactions do to each other in every database under the adapters, with the statements of the kit.

A subclass names itself `Test…` and gives the fixture `shared`.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from service_kit.errors import DatabaseUnavailable
from service_kit.outbox import OutboxEvent
from service_kit.postgres import failures, housekeeping, outbox
from service_kit.postgres.database import Connection, Database, outages
from service_kit.postgres.outbox import add_to_outbox
from service_kit.testing import inbox
from service_kit.testing.eventually import eventually

T = TypeVar("T")

TOMORROW = -1.0
"""The retention, in days, after which every key is old."""

NO_JSONB = r'"\u0000"'
"""JSON that jsonb cannot hold, so that the statement fails by the fault of its data."""


class SharedDatabase(Protocol):
    """A database that several use at once, empty, and what a test cannot do through its connections."""

    @property
    def database(self) -> Database: ...

    async def waiting(self) -> int:
        """How many statements wait for somebody else's transaction."""
        ...

    async def lose(self, connection: Connection) -> None:
        """Break the connection; when this returns the server knows."""

    async def commit_unanswered(self, connection: Connection, transaction: Transaction) -> None:
        """Commit, and lose the connection before the answer. Raises what the driver raises then."""


class OnConnection(Database):
    """For what takes a database and shall run in the transaction of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._connection


class Session:
    """A transaction that has begun on a connection of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.transaction = connection.transaction()
        self._ended = False

    async def commit(self) -> None:
        self._ended = True
        await self.transaction.commit()

    async def rollback(self) -> None:
        if not self._ended:
            self._ended = True
            await self.transaction.rollback()

    def abandon(self) -> None:
        """There is no connection any more on which to end it."""
        self._ended = True

    async def accept(self, *keys: str) -> set[str]:
        return {record["event_key"] for record in await self.connection.fetch(inbox.ACCEPT, list(keys))}

    async def forget_all(self) -> None:
        await self.connection.execute(housekeeping.FORGET, TOMORROW)

    async def add(self, count: int = 1) -> None:
        event = OutboxEvent(event_type="order.created", payload=b"{}", traceparent="t")
        await add_to_outbox(self.connection, [event] * count)

    async def claim(self, limit: int = 100) -> list[int]:
        return [record["id"] for record in await self.connection.fetch(outbox.CLAIM, limit, None, [])]

    async def remove(self, *ids: int) -> None:
        await self.connection.execute(outbox.REMOVE, list(ids), "number", "relay", 0.0, 0.0)

    async def pending(self) -> int:
        count: int = await self.connection.fetchval(outbox.BACKLOG)
        return count

    async def lag(self) -> float | None:
        lag: float | None = await self.connection.fetchval(outbox.LAG)
        return lag

    async def postpone(self, key: str) -> None:
        columns: list[list[Any]] = [[key], ["t"], [b"{}"], [None], ["{}"], [1], ["why"], ["s"], [None], [0.0]]
        await self.connection.execute(failures.POSTPONE, *columns)

    async def lease(self) -> list[int]:
        return [record["id"] for record in await self.connection.fetch(failures.LEASE, 100, 60.0)]

    async def end(self, *ids: int) -> list[str]:
        return [record["event_key"] for record in await self.connection.fetch(failures.END, list(ids))]

    async def postponed(self, *keys: str) -> set[str]:
        return {record["event_key"] for record in await self.connection.fetch(failures.POSTPONED, list(keys))}

    async def bury(self, key: str, payload: str | None = None) -> None:
        await self.connection.execute(
            failures.BURY, key, "t", b"{}", None, "{}", 1, "why", "s", None, payload
        )

    async def fail(self) -> None:
        with pytest.raises(asyncpg.UntranslatableCharacterError):
            await self.bury("of no matter", NO_JSONB)


@asynccontextmanager
async def begun(shared: SharedDatabase) -> AsyncIterator[Session]:
    """Rolled back at the end if it was not ended before."""
    async with shared.database.connection() as connection:
        session = Session(connection)
        await session.transaction.start()
        yield session
        await session.rollback()


async def started(shared: SharedDatabase, statement: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """The statement, once it waits for somebody else's transaction."""
    before = await shared.waiting()
    task = asyncio.create_task(statement)

    async def waits() -> bool:
        return task.done() or await shared.waiting() > before

    await eventually(waits)
    assert not task.done(), "it waits for nobody"
    return task


class TransactionsConformance:
    # who sees what

    async def test_what_is_not_committed_is_seen_by_its_own_transaction_alone(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.add(2)
            assert (await one.pending(), await two.pending()) == (2, 0)
            await one.commit()
            assert await two.pending() == 2

    async def test_what_is_removed_is_there_for_others_until_the_commit(self, shared: SharedDatabase) -> None:
        await add(shared, 2)
        async with begun(shared) as one, begun(shared) as two:
            await one.remove(*await one.claim(1))
            assert (await one.pending(), await two.pending()) == (1, 2)
            await one.commit()
            assert await two.pending() == 1

    async def test_what_is_rolled_back_was_never_there(self, shared: SharedDatabase) -> None:
        async with begun(shared) as session:
            await session.add()
            await session.accept("a")
            await session.postpone("a")
            await session.bury("a")
            await session.rollback()
        async with begun(shared) as session:
            assert await session.pending() == 0
            assert await session.postponed("a") == set()
            assert await session.connection.fetchval(housekeeping.COUNT) == 0
            assert await session.accept("a") == {"a"}

    async def test_rows_become_visible_in_the_order_of_commits_and_not_of_ids(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.add()
            await two.add()
            await two.commit()
            (later,) = await claimable(shared)
            await one.commit()
        earlier, same = await claimable(shared)
        assert earlier < later == same

    # claims

    async def test_two_claims_at_once_skip_each_others_rows(self, shared: SharedDatabase) -> None:
        await add(shared, 3)
        async with begun(shared) as one, begun(shared) as two:
            first = await one.claim(1)
            assert await two.claim() == [first[0] + 1, first[0] + 2]
            assert await one.claim() == first

    async def test_a_claim_ends_with_its_transaction(self, shared: SharedDatabase) -> None:
        await add(shared, 1)
        async with begun(shared) as one, begun(shared) as two:
            row = await one.claim()
            assert await two.claim() == []
            await one.rollback()
            assert await two.claim() == row

    async def test_a_claim_ends_with_its_connection(self, shared: SharedDatabase) -> None:
        await add(shared, 1)
        async with begun(shared) as two:
            async with begun(shared) as one:
                row = await one.claim()
                await one.remove(*row)
                assert await two.claim() == []
                await shared.lose(one.connection)
                one.abandon()
            assert await two.claim() == row

    async def test_who_removes_a_claimed_row_waits_for_the_claim(self, shared: SharedDatabase) -> None:
        await add(shared, 1)
        async with begun(shared) as one, begun(shared) as two:
            row = await one.claim()
            removal = await started(shared, two.remove(*row))
            await one.rollback()
            await removal
            await two.commit()
        assert await claimable(shared) == []

    # keys

    async def test_a_key_waits_for_the_other_transaction_and_is_refused_after_its_commit(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.accept("a")
            acceptance = await started(shared, two.accept("a", "b"))
            await one.commit()
            assert await acceptance == {"b"}

    async def test_a_key_waits_for_the_other_transaction_and_is_accepted_after_its_rollback(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.accept("a")
            acceptance = await started(shared, two.accept("a", "b"))
            await one.rollback()
            assert await acceptance == {"a", "b"}

    async def test_a_key_is_accepted_when_the_other_connection_is_lost(self, shared: SharedDatabase) -> None:
        async with begun(shared) as two:
            async with begun(shared) as one:
                await one.accept("a")
                acceptance = await started(shared, two.accept("a"))
                await shared.lose(one.connection)
                one.abandon()
            assert await acceptance == {"a"}

    async def test_of_several_that_wait_for_a_key_one_accepts_it(self, shared: SharedDatabase) -> None:
        async def accept() -> set[str]:
            async with begun(shared) as session:
                accepted = await session.accept("a")
                await session.commit()
            return accepted

        async with begun(shared) as one:
            await one.accept("a")
            others = [await started(shared, accept()) for _ in range(3)]
            await one.rollback()
            assert sorted(map(len, await asyncio.gather(*others))) == [0, 0, 1]

    async def test_a_key_that_is_being_forgotten_waits_and_is_new_after_the_commit(
        self, shared: SharedDatabase
    ) -> None:
        await accept(shared, "a")
        async with begun(shared) as one, begun(shared) as two:
            await one.forget_all()
            acceptance = await started(shared, two.accept("a"))
            await one.commit()
            assert await acceptance == {"a"}

    async def test_a_key_that_was_not_forgotten_after_all_is_refused(self, shared: SharedDatabase) -> None:
        await accept(shared, "a")
        async with begun(shared) as one, begun(shared) as two:
            await one.forget_all()
            acceptance = await started(shared, two.accept("a"))
            await one.rollback()
            assert await acceptance == set()

    async def test_keys_in_opposite_order_end_in_one_deadlock_and_the_other_goes_through(
        self, shared: SharedDatabase
    ) -> None:
        async def accept_and_commit(session: Session, key: str) -> set[str]:
            accepted = await session.accept(key)
            await session.commit()
            return accepted

        async with begun(shared) as one, begun(shared) as two:
            await one.accept("a")
            await two.accept("b")
            first = await started(shared, accept_and_commit(one, "b"))
            results = await asyncio.gather(first, accept_and_commit(two, "a"), return_exceptions=True)

        (victim,) = (result for result in results if isinstance(result, BaseException))
        (winner,) = (result for result in results if not isinstance(result, BaseException))
        assert isinstance(victim, asyncpg.DeadlockDetectedError) and victim.sqlstate == "40P01"
        assert winner == ({"b"} if victim is results[1] else {"a"})
        assert await accept(shared, "a", "b") == set()

    # rows that changed meanwhile

    async def test_a_retry_that_was_leased_meanwhile_can_be_ended(self, shared: SharedDatabase) -> None:
        id = await postponed_retry(shared, "a")
        async with begun(shared) as one, begun(shared) as two:
            assert await one.lease() == [id]
            ending = await started(shared, two.end(id))
            await one.commit()
            assert await ending == ["a"]

    async def test_a_retry_that_ended_meanwhile_is_ended_once(self, shared: SharedDatabase) -> None:
        id = await postponed_retry(shared, "a")
        async with begun(shared) as one, begun(shared) as two:
            assert await one.end(id) == ["a"]
            ending = await started(shared, two.end(id))
            await one.commit()
            assert await ending == []

    async def test_a_retry_that_was_written_anew_meanwhile_is_another(self, shared: SharedDatabase) -> None:
        """As when a lease ended too early: one failed and waits again, the other, slower, was handled."""
        id = await postponed_retry(shared, "a")
        async with begun(shared) as one, begun(shared) as two:
            await one.end(id)
            await one.postpone("a")
            ending = await started(shared, two.end(id))
            await one.commit()
            assert await ending == []
            await two.commit()
        async with begun(shared) as session:
            (new,) = await session.lease()
        assert new != id

    async def test_a_letter_that_is_buried_twice_at_once_is_one(self, shared: SharedDatabase) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.bury("a")
            second = await started(shared, two.bury("a"))
            await one.commit()
            await second
            await two.commit()
        async with begun(shared) as session:
            assert await session.connection.fetchval(housekeeping.COUNT) == 1

    # failures

    async def test_a_failed_statement_aborts_the_transaction_until_its_rollback(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as session:
            await session.accept("a")
            await session.fail()
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await session.accept("b")
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                async with session.connection.transaction():
                    pass
            await session.rollback()
            assert await session.accept("a", "b") == {"a", "b"}

    async def test_the_commit_of_a_failed_transaction_is_a_rollback_without_an_error(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as session:
            await session.accept("a")
            await session.fail()
            await session.commit()
        assert await accept(shared, "a") == {"a"}

    async def test_a_failed_statement_gives_back_what_is_locked_before_the_rollback(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.accept("a")
            acceptance = await started(shared, two.accept("a"))
            await one.fail()
            assert await acceptance == {"a"}

    async def test_a_failed_statement_outside_of_a_transaction_leaves_nothing_behind(
        self, shared: SharedDatabase
    ) -> None:
        async with shared.database.connection() as connection:
            await Session(connection).fail()
            assert await Session(connection).accept("a") == {"a"}
        assert await accept(shared, "a") == set()

    async def test_a_cancelled_statement_aborts_its_transaction(self, shared: SharedDatabase) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await two.accept("b")
            await one.accept("a")
            acceptance = await started(shared, two.accept("a"))
            acceptance.cancel()
            with pytest.raises(asyncio.CancelledError):
                await acceptance
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await two.pending()
            assert await one.accept("b") == {"b"}

    @pytest.mark.parametrize("key", ["a \0 within", "\0"])
    async def test_a_nul_is_a_fault_of_the_data_that_the_server_finds(
        self, shared: SharedDatabase, key: str
    ) -> None:
        async with begun(shared) as session:
            with outages("here"), pytest.raises(asyncpg.CharacterNotInRepertoireError):
                await session.accept("a", key)
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await session.accept("a")

    async def test_half_a_surrogate_never_reaches_the_server(self, shared: SharedDatabase) -> None:
        async with begun(shared) as session:
            with outages("here"), pytest.raises(asyncpg.DataError):
                await session.accept("a", "\ud800")
            assert await session.accept("a") == {"a"}

    # savepoints

    async def test_a_savepoint_rolls_back_what_came_after_it(self, shared: SharedDatabase) -> None:
        async with begun(shared) as session:
            await session.accept("a")
            await session.postpone("a")
            savepoint = session.connection.transaction()
            await savepoint.start()
            await session.accept("b")
            await session.postpone("b")
            await session.add()
            await savepoint.rollback()
            assert await session.pending() == 0
            await session.accept("c")
            await session.commit()
        assert await accept(shared, "a", "b", "c") == {"b"}
        async with begun(shared) as session:
            assert await session.postponed("a", "b") == {"a"}

    async def test_a_savepoint_rolls_back_to_changes_of_the_same_row_before_it(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as session:
            await session.add()
            row = await session.claim()
            savepoint = session.connection.transaction()
            await savepoint.start()
            await session.remove(*row)
            assert await session.pending() == 0
            await savepoint.rollback()
            await session.commit()
        assert await claimable(shared) == row

    async def test_after_a_savepoint_a_failed_transaction_goes_on(self, shared: SharedDatabase) -> None:
        async with begun(shared) as session:
            await session.accept("a")
            savepoint = session.connection.transaction()
            await savepoint.start()
            await session.accept("b")
            await session.fail()
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await session.accept("c")
            await savepoint.rollback()
            assert await session.accept("a", "b") == {"b"}
            await session.commit()
        assert await accept(shared, "a", "b", "c") == {"c"}

    async def test_a_savepoint_of_a_failed_transaction_cannot_be_released(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as session:
            savepoint = session.connection.transaction()
            await savepoint.start()
            await session.fail()
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await savepoint.commit()

    async def test_what_a_released_savepoint_did_ends_with_the_transaction(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            async with one.connection.transaction():
                await one.accept("a")
            acceptance = await started(shared, two.accept("a"))
            await one.rollback()
            assert await acceptance == {"a"}

    async def test_a_savepoint_gives_back_what_was_locked_after_it(self, shared: SharedDatabase) -> None:
        async with begun(shared) as one, begun(shared) as two, begun(shared) as three:
            await one.accept("a")
            savepoint = one.connection.transaction()
            await savepoint.start()
            await one.accept("b")
            of_a = await started(shared, two.accept("a"))
            of_b = await started(shared, three.accept("b"))
            await savepoint.rollback()
            assert await of_b == {"b"}
            assert await shared.waiting() == 1
            await one.commit()
            assert await of_a == set()

    async def test_a_savepoint_that_was_rolled_back_to_still_guards_what_came_before_it(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one, begun(shared) as two:
            await one.accept("a")
            savepoint = one.connection.transaction()
            await savepoint.start()
            await savepoint.rollback()
            await one.fail()
            acceptance = await started(shared, two.accept("a"))
            await one.rollback()
            assert await acceptance == {"a"}

    # time

    async def test_now_is_when_the_transaction_began(self, shared: SharedDatabase) -> None:
        """What was written later is not due in it yet."""
        async with begun(shared) as session:
            await add(shared, 1)
            lag = await session.lag()
            assert lag is not None and lag < 0
            assert await session.pending() == 1
            assert await session.claim() == []
        assert len(await claimable(shared)) == 1

    async def test_in_one_transaction_it_is_always_the_same_moment(self, shared: SharedDatabase) -> None:
        async with begun(shared) as session:
            await session.add()
            assert await session.lag() == 0
            assert len(await session.claim()) == 1

    # connections

    async def test_a_commit_whose_answer_is_lost_has_happened(self, shared: SharedDatabase) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with begun(shared) as session:
                await session.accept("a")
                await session.add()
                await shared.commit_unanswered(session.connection, session.transaction)

        async def is_there() -> bool:
            return len(await claimable(shared)) == 1

        await eventually(is_there)
        assert await accept(shared, "a") == set()

    async def test_a_lost_connection_rolls_back(self, shared: SharedDatabase) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with begun(shared) as session:
                await session.add()
                await shared.lose(session.connection)
                await session.commit()
        assert await claimable(shared) == []

    async def test_who_waits_on_a_lost_connection_learns_it_and_changes_nothing(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one:
            await one.accept("a")
            with pytest.raises(DatabaseUnavailable):
                async with begun(shared) as two:
                    acceptance = await started(shared, two.accept("a", "b"))
                    await shared.lose(two.connection)
                    await acceptance
            assert await one.accept("b") == {"b"}

    async def test_a_connection_that_is_let_go_in_a_transaction_rolls_back(
        self, shared: SharedDatabase
    ) -> None:
        async with begun(shared) as one:
            await one.add()
            one.abandon()

        async with begun(shared) as two:
            assert await two.pending() == 0


async def add(shared: SharedDatabase, count: int) -> None:
    async with begun(shared) as session:
        await session.add(count)
        await session.commit()


async def accept(shared: SharedDatabase, *keys: str) -> set[str]:
    async with begun(shared) as session:
        accepted = await session.accept(*keys)
        await session.commit()
    return accepted


async def claimable(shared: SharedDatabase) -> Sequence[int]:
    """The ids of a claim that ends at once."""
    async with begun(shared) as session:
        return await session.claim()


async def postponed_retry(shared: SharedDatabase, key: str) -> int:
    """The id of a retry that is due."""
    async with begun(shared) as session:
        await session.postpone(key)
        await session.commit()
    async with begun(shared) as session:
        (id,) = await session.lease()
    return id
