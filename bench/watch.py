"""What the databases say about orders, asked seldom enough to cost nothing."""

from array import array
from pathlib import Path

from asyncpg import Connection

from bench.load.spec import ID_WIDTH

# By the partial index, which is as large as what is under way.
PENDING = "SELECT count(*) FROM orders WHERE status = 'pending'"
OUTBOX = "SELECT count(*) FROM outbox"
FINAL_AT = """
SELECT order_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS final_at
FROM orders WHERE status <> 'pending' AND order_id LIKE $1
"""
SIZES = """
SELECT relname AS name, pg_total_relation_size(oid)::float8 / 1e6 AS megabytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


async def pending(connection: Connection) -> int:
    return int(await connection.fetchval(PENDING))


async def outbox_rows(connection: Connection) -> int:
    return int(await connection.fetchval(OUTBOX))


async def sizes(connection: Connection) -> dict[str, float]:
    """Megabytes of each table with its indexes."""
    return {record["name"]: record["megabytes"] for record in await connection.fetch(SIZES)}


async def final_latencies(connection: Connection, prefix: str, times_file: Path) -> list[float]:
    """For each order of `prefix` that is final: seconds from when its POST was due until that was committed.

    By the commit's own time stamp, so that looking costs nothing while it happens.
    """
    due_at = array("d")
    due_at.frombytes(times_file.read_bytes())  # noqa: ASYNC240, nothing is measured now
    records = await connection.fetch(FINAL_AT, f"{prefix}-%")
    return [record["final_at"] - due_at[int(record["order_id"][-ID_WIDTH:])] for record in records]
