"""The table of API keys: their hashes, and what each may do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from service_kit.api_keys import NewSecret, new_secret
from service_kit.errors import ServiceKitError
from service_kit.http.principal import Principal, Role
from service_kit.key_ring import FoundKey
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Connection, Database, Record

_USABLE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"

# To the minute: a row that changed with each request would be written more often than read.
FIND = f"""
WITH used AS (
    UPDATE api_keys SET last_used_at = now()
    WHERE hash = $1 AND {_USABLE} AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute'
)
SELECT id, hash, name, roles, customers, extract(epoch FROM expires_at - now())::float8 AS seconds_left
FROM api_keys WHERE hash = $1 AND {_USABLE}
"""

ANY_USABLE = f"SELECT EXISTS (SELECT FROM api_keys WHERE {_USABLE})"

_SHOWN = f"""
id, hint, name, roles, customers, created_at, expires_at, revoked_at, last_used_at, replaces,
CASE WHEN {_USABLE} THEN 'usable' WHEN revoked_at IS NULL THEN 'expired' ELSE 'revoked' END AS state
"""

LIST = f"SELECT {_SHOWN} FROM api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2"

LOCK = f"SELECT {_SHOWN} FROM api_keys WHERE id = $1 FOR UPDATE"

CREATE = f"""
INSERT INTO api_keys (hash, hint, name, roles, customers, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval) RETURNING {_SHOWN}
"""

# As long-lived as the one that it replaces was before its own end was set: its first successor shows that.
SUCCEED = f"""
INSERT INTO api_keys (hash, hint, name, roles, customers, expires_at, replaces)
SELECT $2, $3, old.name, old.roles, old.customers, now() + (model.expires_at - model.created_at), old.id
FROM api_keys AS old
JOIN api_keys AS model
    ON model.id = coalesce((SELECT min(id) FROM api_keys WHERE replaces = old.id), old.id)
WHERE old.id = $1
RETURNING {_SHOWN}
"""

END = "UPDATE api_keys SET expires_at = least(expires_at, now() + $2::interval) WHERE id = $1"

REVOKE = f"UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING {_SHOWN}"

Row = Mapping[str, Any]


class KeyNotFound(ServiceKitError):
    """There is no such key."""


class KeyNotUsable(ServiceKitError):
    """The key was revoked or has expired: make a new one."""


class KeyNotPossible(ServiceKitError):
    """An admin may all, and cannot be restricted to customers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """`customers` None: of all; `days` None: it never expires."""

    name: str
    roles: Sequence[Role]
    customers: Sequence[str] | None = None
    days: float | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """`secret` is the key itself, which is nowhere else."""

    row: Row
    secret: str


class ApiKeys:
    """Each change is one transaction with its entry in the audit log. Everything raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, hash_: bytes) -> FoundKey | None:
        """The usable key with this hash."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(FIND, hash_)
        return _found(row) if row else None

    async def any_usable(self) -> bool:
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(ANY_USABLE))

    async def list(self, *, before: int, limit: int) -> Sequence[Row]:
        """Newest first."""
        async with self._database.connection() as connection:
            return [dict(row) for row in await connection.fetch(LIST, before, limit)]

    async def create(self, new: NewKey, cause: Cause) -> MadeKey:
        """Raises KeyNotPossible."""
        if new.customers is not None and Role.ADMIN in new.roles:
            raise KeyNotPossible
        secret = new_secret()
        lifetime = timedelta(days=new.days) if new.days is not None else None
        customers = sorted(set(new.customers)) if new.customers is not None else None
        async with self._database.transaction() as connection:
            stored = (secret.hash, secret.hint, new.name, sorted(set(new.roles)), customers, lifetime)
            row = await connection.fetchrow(CREATE, *stored)
            return await _made(connection, row, secret, cause, "key.create")

    async def rotate(self, key_id: int, *, overlap: timedelta, cause: Cause) -> MadeKey:
        """A new key in the place of the old one, which ends after `overlap`.

        Raises KeyNotFound, KeyNotUsable.
        """
        secret = new_secret()
        async with self._database.transaction() as connection:
            old = await connection.fetchrow(LOCK, key_id)
            if old is None:
                raise KeyNotFound
            if old["state"] != "usable":
                raise KeyNotUsable
            row = await connection.fetchrow(SUCCEED, key_id, secret.hash, secret.hint)
            await connection.execute(END, key_id, overlap)
            return await _made(connection, row, secret, cause, "key.rotate")

    async def revoke(self, key_id: int, cause: Cause) -> Row:
        """It is taken no more; who repeats it changes nothing. Raises KeyNotFound."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(REVOKE, key_id)
            if row is None:
                raise KeyNotFound
            await write_audit(connection, cause, "key.revoke", _target(row), {})
        return dict(row)


async def _made(
    connection: Connection, row: Record | None, secret: NewSecret, cause: Cause, action: str
) -> MadeKey:
    assert row
    details = {name: row[name] for name in ("roles", "customers", "expires_at", "replaces")}
    await write_audit(connection, cause, action, _target(row), details)
    return MadeKey(dict(row), secret.key)


def _target(row: Record) -> str:
    return f"key {row['id']} ({row['hint']}…, {row['name']})"


def _found(row: Record) -> FoundKey:
    customers = frozenset(row["customers"]) if row["customers"] is not None else None
    roles = frozenset(Role(role) for role in row["roles"])
    principal = Principal(id=f"key {row['id']}", name=row["name"], roles=roles, customers=customers)
    return FoundKey(row["hash"], principal, row["seconds_left"])
