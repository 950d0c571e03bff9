import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from service_kit.errors import DatabaseUnavailable
from service_kit.postgres.database import Connection, Database, outages, plain_dsn
from service_kit.testing.eventually import eventually

RefusingServer = Callable[[str, str], AbstractAsyncContextManager[str]]

INSERT = "INSERT INTO processed_inbox (event_key) VALUES ($1)"
COUNT = "SELECT count(*) FROM processed_inbox"


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def single(dsn: str, database: Database) -> AsyncIterator[Database]:
    """With one connection only: what leaks it blocks everything after."""
    async with Database(dsn, application_name="single", connections_max=1) as single:
        yield single


async def count(database: Database) -> int:
    async with database.connection() as connection:
        number: int = await connection.fetchval(COUNT)
    return number


async def backend(database: Database) -> int:
    async with database.connection() as connection:
        return await pid_of(connection)


def with_a_host_before(dsn: str, port: int) -> str | None:
    parts = urlsplit(dsn)
    user, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port},{address}")) if address else None


def with_a_dead_host_before(dsn: str) -> str:
    if dead := with_a_host_before(dsn, 1):
        return dead
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(query=parts.query.replace("host=", "host=/no/such/folder,")))


@contextmanager
def gone_machine() -> Iterator[int]:
    """A port that neither takes nor refuses a connection, since the queue of those that wait is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port: int = server.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def pid_of(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


# an outage


async def test_a_terminated_backend_is_an_outage(single: Database, other: asyncpg.Connection) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with single.connection() as connection:
            await other.execute("SELECT pg_terminate_backend($1)", await pid_of(connection))
            await connection.fetchval("SELECT 1")


async def test_after_a_terminated_backend_the_pool_recovers(
    single: Database, other: asyncpg.Connection
) -> None:
    pid = await backend(single)
    await other.execute("SELECT pg_terminate_backend($1)", pid)

    async def recovered() -> bool:
        try:
            return await backend(single) != pid
        except DatabaseUnavailable:
            return False

    assert await eventually(recovered)


async def test_a_transaction_of_a_terminated_backend_is_an_outage_and_rolled_back(
    single: Database, other: asyncpg.Connection
) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with single.transaction() as connection:
            await connection.execute(INSERT, "a")
            await other.execute("SELECT pg_terminate_backend($1)", await pid_of(connection))
    assert await other.fetchval(COUNT) == 0
    assert await count(single) == 0


async def test_a_statement_timeout_of_the_server_is_an_outage(single: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        async with single.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = 10")
            await connection.execute("SELECT pg_sleep(60)")
    assert await count(single) == 0


async def test_a_server_that_does_not_answer_in_time_is_an_outage(dsn: str, database: Database) -> None:
    async with Database(dsn, application_name="hasty", command_timeout_seconds=0.05) as hasty:
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            async with hasty.connection() as connection:
                await connection.execute("SELECT pg_sleep(60)")


async def test_a_lock_that_is_not_free_is_an_outage(single: Database, other: asyncpg.Connection) -> None:
    async with other.transaction():
        await other.execute("LOCK TABLE processed_inbox")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            async with single.transaction() as connection:
                await connection.execute("SET LOCAL lock_timeout = 10")
                await connection.execute(INSERT, "a")
    assert await count(single) == 0


async def test_a_deadlock_is_an_outage_of_one_of_the_two(database: Database) -> None:
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", first)
            await both_hold_one.wait()
            await connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    results = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["DatabaseUnavailable", "NoneType"]
    assert any("deadlock" in str(result) for result in results)


async def test_a_serialization_failure_is_an_outage(single: Database, other: asyncpg.Connection) -> None:
    await other.execute(INSERT, "a")
    with pytest.raises(DatabaseUnavailable, match="could not serialize"):
        async with single.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await connection.fetchval(COUNT)
            await other.execute("UPDATE processed_inbox SET processed_at = now()")
            await connection.execute("UPDATE processed_inbox SET processed_at = now()")
    assert await count(single) == 1


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM not_migrated_yet", "SELECT not_migrated_yet FROM outbox", "SELEC 1"],
)
async def test_what_is_not_migrated_yet_is_an_outage(single: Database, statement: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with single.connection() as connection:
            await connection.execute(statement)
    assert await count(single) == 0


async def test_a_row_twice_in_one_statement_is_no_outage(single: Database) -> None:
    twice = """
        INSERT INTO processed_inbox (event_key) VALUES ('a'), ('a')
        ON CONFLICT (event_key) DO UPDATE SET processed_at = now()
    """
    with pytest.raises(asyncpg.CardinalityViolationError):
        async with single.connection() as connection:
            await connection.execute(twice)


async def test_a_primary_that_became_a_standby_is_an_outage_and_left(single: Database) -> None:
    pid = await backend(single)
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        async with single.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(INSERT, "a")
    assert await backend(single) != pid


async def test_a_connection_is_kept_for_the_next_and_counts_as_idle(database: Database) -> None:
    first = await backend(database)

    assert await backend(database) == first
    assert (database.idle_connections, database.used_connections) == (1, 0)
    async with database.connection():
        assert (database.idle_connections, database.used_connections) == (0, 1)


async def test_few_connections_serve_many_and_nobody_waits_for_ever(dsn: str, database: Database) -> None:
    async def work(small: Database, number: int) -> int:
        async with small.connection() as connection:
            answer: int = await connection.fetchval("SELECT $1::int FROM pg_sleep(0.002)", number)
        return answer

    async with Database(dsn, application_name="small", connections_max=2, command_timeout_seconds=5) as small:
        answers = await asyncio.gather(*(work(small, number) for number in range(100)))
        assert (small.idle_connections, small.used_connections) == (2, 0)

    assert answers == list(range(100))


async def test_a_kept_connection_that_the_server_closed_is_not_used_again(
    single: Database, other: asyncpg.Connection
) -> None:
    pid = await backend(single)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    await eventually(lambda: single.idle_connections == 0)

    assert await backend(single) != pid


async def test_opening_connections_counts_those_that_are_kept(dsn: str, database: Database) -> None:
    async with Database(dsn, application_name="small", connections_max=2, command_timeout_seconds=5) as small:
        await count(small)
        await small.open_connections(2)
        await small.open_connections(2)
        assert (small.idle_connections, small.used_connections) == (2, 0)


async def test_a_statement_whose_cancellation_is_swallowed_costs_no_connection(single: Database) -> None:
    async with single.connection() as connection:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await connection.execute("SELECT count(*) FROM generate_series(1, 3000000)")
    await asyncio.sleep(0)  # dropped by now

    assert await count(single) == 0


async def test_a_plan_is_made_once(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"


async def test_a_connection_that_is_not_needed_for_long_goes_back_to_the_pool(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.connection(), database.connection():
        pass
    monkeypatch.setattr("service_kit.postgres.database._KEPT_SECONDS_MAX", 0.0)

    await count(database)

    assert database._pool.get_idle_size() == 1  # which closes it when nobody needs it
    assert (database.idle_connections, database.used_connections) == (2, 0)


async def test_no_free_connection_is_an_outage(dsn: str, database: Database) -> None:
    async with Database(dsn, application_name="small", connections_max=1, command_timeout_seconds=2) as small:
        async with small.connection():
            with pytest.raises(DatabaseUnavailable, match="no answer in time"):
                await count(small)
        assert await count(small) == 0


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
        ("28P01", "password authentication failed"),
        ("3D000", "no such database"),
    ],
)
async def test_a_server_that_refuses_us_is_an_outage(
    refusing_server: RefusingServer, sqlstate: str, text: str
) -> None:
    async with (
        refusing_server(sqlstate, text) as dsn,
        Database(dsn, application_name="tests") as refused,
    ):
        with pytest.raises(DatabaseUnavailable, match=text) as raised:
            await refused.problem()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "no-such-host.invalid", "127.0.0.1:1,127.0.0.1:2", "/no/such/folder"]
)
async def test_a_server_that_cannot_be_reached_is_an_outage(address: str) -> None:
    dsn = (
        f"postgresql://me@/orders?host={address}"
        if address.startswith("/")
        else f"postgresql://me@{address}/orders"
    )
    async with Database(dsn, application_name="tests") as nowhere:
        with pytest.raises(DatabaseUnavailable):
            await nowhere.problem()


async def test_a_server_that_hangs_up_at_once_is_an_outage() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        dsn = f"postgresql://me@127.0.0.1:{port}/orders?sslmode=disable"
        async with Database(dsn, application_name="tests") as nowhere:
            with pytest.raises(DatabaseUnavailable):
                await nowhere.problem()


async def test_no_host_that_is_the_wanted_one_is_an_outage(dsn: str) -> None:
    async with Database(f"{dsn}?target_session_attrs=standby", application_name="tests") as primary_only:
        with pytest.raises(DatabaseUnavailable, match="None of the hosts"):
            await primary_only.problem()


def test_what_the_driver_says_of_a_connection_that_is_closing_is_an_outage() -> None:
    with pytest.raises(DatabaseUnavailable), outages("here"):
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")


async def test_a_database_that_answers_has_no_problem(database: Database) -> None:
    assert await database.problem() is None


async def test_the_second_host_is_used_when_the_first_is_away(dsn: str, database: Database) -> None:
    async with Database(with_a_dead_host_before(dsn), application_name="tests") as second:
        assert await second.problem() is None


async def test_a_first_host_whose_machine_is_gone_costs_one_timeout_once(
    dsn: str, database: Database
) -> None:
    clock = asyncio.get_running_loop().time
    with gone_machine() as port:
        if not (both := with_a_host_before(dsn, port)):
            pytest.skip("the server is reached through a socket in a folder")
        async with Database(both, application_name="t") as second:
            assert await second.problem() is None
            begun = clock()
            await second.open_connections(2)
            assert clock() - begun < 4


# a fault of the data


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO processed_inbox (event_key) VALUES ('a'), ('a')", asyncpg.UniqueViolationError),
        ("INSERT INTO processed_inbox (event_key) VALUES (NULL)", asyncpg.NotNullViolationError),
        (
            "INSERT INTO dead_letter_queue (source, event_key, original_event_type, body, failure_reason, "
            "attempts) VALUES ('nobody', 'k', 't', '', 'r', 1)",
            asyncpg.CheckViolationError,
        ),
        ("SELECT 'x'::int", asyncpg.InvalidTextRepresentationError),
        ("SELECT 1 / 0", asyncpg.DivisionByZeroError),
        ("SELECT repeat('x', 2000000000)", asyncpg.ProgramLimitExceededError),
    ],
)
async def test_a_fault_of_the_data_is_no_outage(
    single: Database, statement: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with single.transaction() as connection:
            await connection.execute(statement)
    assert await count(single) == 0


async def test_a_value_that_the_driver_cannot_encode_is_no_outage(single: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        async with single.connection() as connection:
            await connection.execute("SELECT $1::int", "no number")


async def test_an_error_of_the_caller_passes_unchanged(single: Database) -> None:
    with pytest.raises(LookupError, match="my own"):
        async with single.transaction():
            raise LookupError("my own")


# transactions


async def test_a_transaction_is_committed_at_its_end(single: Database, other: asyncpg.Connection) -> None:
    async with single.transaction() as connection:
        await connection.execute(INSERT, "a")
        assert await other.fetchval(COUNT) == 0
    assert await other.fetchval(COUNT) == 1


async def test_a_transaction_is_rolled_back_by_an_exception(single: Database) -> None:
    with pytest.raises(LookupError):
        async with single.transaction() as connection:
            await connection.execute(INSERT, "a")
            raise LookupError
    assert await count(single) == 0


async def test_a_transaction_cancelled_in_its_query_is_rolled_back_and_leaks_nothing(
    single: Database, other: asyncpg.Connection
) -> None:
    inserted = asyncio.Event()

    async def insert_and_hang() -> None:
        async with single.transaction() as connection:
            await connection.execute(INSERT, "a")
            inserted.set()
            await connection.execute("SELECT pg_sleep(60)")

    for _ in range(3):
        inserted.clear()
        task = asyncio.create_task(insert_and_hang())
        await inserted.wait()
        await eventually(lambda: is_sleeping(other))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await count(single) == 0
    assert not await is_sleeping(other)


async def is_sleeping(other: asyncpg.Connection) -> bool:
    number: int = await other.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'single' "
        "AND state = 'active' AND query = 'SELECT pg_sleep(60)'"
    )
    return number > 0


async def test_failing_in_every_way_leaks_no_connection(
    dsn: str, database: Database, other: asyncpg.Connection
) -> None:
    async with Database(dsn, application_name="leaky", connections_max=2) as leaky:

        async def fail(number: int) -> None:
            async with leaky.transaction() as connection:
                await connection.execute(INSERT, f"{number}")
                if number % 3 == 0:
                    await connection.execute("SELECT 1 / 0")
                if number % 3 == 1:
                    raise LookupError
                await connection.execute("SELECT * FROM nowhere")

        results = await asyncio.gather(*(fail(number) for number in range(30)), return_exceptions=True)

        assert all(isinstance(result, Exception) for result in results)
        states = await other.fetch("SELECT state FROM pg_stat_activity WHERE application_name = 'leaky'")
        assert [record["state"] for record in states] == ["idle"] * len(states)
        assert 1 <= len(states) <= 2
        assert await count(leaky) == 0


# plans


async def test_a_plan_made_while_a_table_is_new_is_good_when_it_has_grown(
    single: Database, other: asyncpg.Connection
) -> None:
    explain = """
    EXPLAIN UPDATE processed_inbox SET processed_at = now()
    FROM unnest('{a,b}'::text[]) AS given (key) WHERE processed_inbox.event_key = given.key
    """
    await other.execute("ANALYZE processed_inbox")
    assert "Index Scan" not in await plan(other, explain), "the planner mends this by itself now"

    async with single.connection() as connection:
        assert "Index Scan using processed_inbox_pkey" in await plan(connection, explain)


async def plan(connection: Connection | asyncpg.Connection, explain: str) -> str:
    return "\n".join(record[0] for record in await connection.fetch(explain))


async def test_a_session_that_was_left_in_a_transaction_is_cleaned(single: Database) -> None:
    async with single.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute(INSERT, "a")
    assert await count(single) == 0


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
def test_a_dsn_may_name_the_driver(scheme: str) -> None:
    assert plain_dsn(f"{scheme}://me@one,two:5433/orders") == "postgresql://me@one,two:5433/orders"
