"""The audit log: which operator changed what, when and why. The table takes new rows and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from service_kit.postgres.database import Connection, Database

WRITE = """
INSERT INTO audit_log (operator, action, target, reason, details) VALUES ($1, $2, $3, $4, $5::jsonb)
"""

LIST = """
SELECT id, at, operator, action, target, reason, details::text AS details
FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who changes something, and why."""

    operator: str
    reason: str


async def write_audit(
    connection: Connection, cause: Cause, action: str, target: str, details: Mapping[str, object]
) -> None:
    """With the running transaction, so that no change is without its entry and no entry without its change.

    `action` is a constant word such as `replay.start`; `details` must be storable as JSON.
    """
    await connection.execute(
        WRITE, cause.operator, action, target, cause.reason, msgspec.json.encode(details).decode()
    )


async def audit_entries(database: Database, *, before: int, limit: int) -> Sequence[Mapping[str, object]]:
    """Up to `limit` entries older than the one with id `before`, newest first."""
    async with database.connection() as connection:
        records = await connection.fetch(LIST, before, limit)
    return [{**record, "details": msgspec.Raw(record["details"].encode())} for record in records]
