"""The outbox is vacuumed when many of its rows are dead, and only then."""

from structlog.testing import capture_logs

from service_kit.postgres.database import Database
from service_kit.postgres.housekeeping import DEAD_ROWS, OutboxVacuum
from service_kit.testing.eventually import eventually

VACUUMED = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = 'outbox'::regclass"


async def test_many_dead_rows_are_vacuumed_away(database: Database) -> None:
    await _leave_dead_rows(database, 50)
    before = await _value(database, VACUUMED)

    await OutboxVacuum(database, dead_rows_max=49, interval_seconds=0).run_once()

    async def vacuumed() -> bool:
        return await _value(database, VACUUMED) > before

    await eventually(vacuumed)
    assert await _value(database, DEAD_ROWS) == 0


async def test_few_dead_rows_are_left_alone(database: Database) -> None:
    await _leave_dead_rows(database, 50)
    before = await _value(database, VACUUMED)

    await OutboxVacuum(database, dead_rows_max=1_000_000, interval_seconds=0).run_once()

    assert await _value(database, VACUUMED) == before


async def _leave_dead_rows(database: Database, count: int) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO outbox (event_type, payload) SELECT 'test', '{}' FROM generate_series(1, $1)", count
        )
        await connection.execute("DELETE FROM outbox")
        await connection.execute("SELECT pg_stat_force_next_flush()")

    async def told() -> bool:
        return await _value(database, DEAD_ROWS) >= count

    await eventually(told)


async def _value(database: Database, sql: str) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval(sql) or 0)


async def test_what_an_old_transaction_holds_is_told_once_and_not_tried_again(database: Database) -> None:
    vacuum = OutboxVacuum(database, dead_rows_max=49, interval_seconds=0)
    async with database.transaction() as old:
        await old.fetchval("SELECT txid_current()")
        await _leave_dead_rows(database, 50)
        with capture_logs() as told:
            await vacuum.run_once()
            before = await _value(database, VACUUMED)
            await vacuum.run_once()
        assert await _value(database, VACUUMED) == before
    assert [line["event"] for line in told] == ["outbox_not_vacuumed"]
