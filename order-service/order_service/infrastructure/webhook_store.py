"""Endpoints of webhooks and their deliveries, stored."""

from collections.abc import Callable, Mapping, Sequence

from order_service.application.webhooks import Answer, Delivery, Subscription, message_id
from order_service.domain.event import OrderEvent
from order_service.infrastructure.order_log import PageOfEvents, read_page
from service_kit.postgres.audit import Cause, write_audit
from service_kit.postgres.database import Connection, Database

ENDPOINTS_MAX = 1_000

ENDPOINT_COLUMNS = """id, url, description, event_types, customer_ids, enabled, disabled_because, created_at,
    CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until"""

# Only what is complete in the log when the endpoint is there can be what followed it.
CREATE = f"""
INSERT INTO webhook_endpoints (url, description, event_types, customer_ids, secret, since)
SELECT $1, $2, $3::text[], $4::text[], $5, (SELECT position FROM order_log_head)
WHERE (SELECT count(*) FROM webhook_endpoints) < {ENDPOINTS_MAX}
RETURNING {ENDPOINT_COLUMNS}
"""

LIST = f"SELECT {ENDPOINT_COLUMNS} FROM webhook_endpoints WHERE id < $1 ORDER BY id DESC LIMIT $2"
GET = f"SELECT {ENDPOINT_COLUMNS} FROM webhook_endpoints WHERE id = $1"

# What happens while an endpoint is disabled is not delivered to it later.
CHANGE = f"""
UPDATE webhook_endpoints SET
    url = coalesce($2, url), description = coalesce($3, description),
    event_types = coalesce($4::text[], event_types), customer_ids = coalesce($5::text[], customer_ids),
    since = CASE WHEN $6 AND NOT enabled THEN (SELECT position FROM order_log_head) ELSE since END,
    enabled = coalesce($6, enabled),
    disabled_because = CASE
        WHEN $6 THEN NULL WHEN NOT $6 THEN 'an operator disabled it' ELSE disabled_because
    END
WHERE id = $1
RETURNING {ENDPOINT_COLUMNS}
"""

DELETE = "DELETE FROM webhook_endpoints WHERE id = $1 RETURNING id"

ROTATE = f"""
UPDATE webhook_endpoints
SET previous_secret = secret, previous_secret_until = now() + $3 * interval '1 s', secret = $2
WHERE id = $1
RETURNING {ENDPOINT_COLUMNS}
"""

SUBSCRIPTIONS = """
SELECT id AS endpoint_id, event_types, customer_ids, since FROM webhook_endpoints WHERE enabled
"""

# One process at a time: who comes second goes away.
LOCK_CURSOR = "SELECT position FROM webhook_cursor FOR UPDATE SKIP LOCKED"
LOG_HEAD = "SELECT position FROM order_log_head"
MOVE_CURSOR = "UPDATE webhook_cursor SET position = $1"

ADD = """
INSERT INTO webhook_deliveries (endpoint_id, message_id, event_type, order_id, body)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
"""

# Of each endpoint no more than it has room for here, the longest due first. What another has in hand is
# skipped: its rows are locked, and then not due for the time of the lease.
CLAIM = """
UPDATE webhook_deliveries AS delivery SET due_at = now() + $3 * interval '1 s'
FROM webhook_endpoints AS endpoint
WHERE endpoint.id = delivery.endpoint_id AND delivery.id = ANY (ARRAY(
    SELECT due.id
    FROM unnest($1::bigint[], $2::integer[]) AS room (endpoint_id, deliveries)
    CROSS JOIN LATERAL (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = room.endpoint_id AND status = 'pending' AND due_at <= now()
        ORDER BY due_at LIMIT room.deliveries FOR UPDATE SKIP LOCKED
    ) AS due
))
RETURNING delivery.id, delivery.endpoint_id, delivery.message_id, delivery.body, delivery.attempts,
    endpoint.url, endpoint.secret,
    CASE WHEN endpoint.previous_secret_until > now() THEN endpoint.previous_secret END AS previous_secret
"""

DELIVERED = """
UPDATE webhook_deliveries
SET status = 'delivered', attempts = $2 + 1, answered = $3, last_error = NULL, ended_at = now()
WHERE id = $1 AND status <> 'delivered'
"""

# An attempt that another process has counted meanwhile, since the lease was over, is not counted again.
FAILED = """
UPDATE webhook_deliveries
SET attempts = attempts + 1, answered = $3, last_error = $4,
    status = CASE WHEN $5::float8 IS NULL THEN 'failed' ELSE 'pending' END,
    due_at = now() + coalesce($5::float8, 0) * interval '1 s',
    ended_at = CASE WHEN $5::float8 IS NULL THEN now() END
WHERE id = $1 AND status = 'pending' AND attempts = $2
"""

DISABLE = "UPDATE webhook_endpoints SET enabled = false, disabled_because = $2 WHERE id = $1 AND enabled"

DELIVERIES = """
SELECT id, message_id, event_type, order_id, status, attempts, answered, last_error, created_at, ended_at,
    CASE WHEN status = 'pending' THEN due_at END AS due_at, body
FROM webhook_deliveries
WHERE endpoint_id = $1 AND id < $2 AND ($3::text IS NULL OR status = $3)
ORDER BY id DESC LIMIT $4
"""

REPLAY = """
UPDATE webhook_deliveries SET status = 'pending', attempts = 0, due_at = now(), ended_at = NULL
WHERE endpoint_id = $1 AND id = ANY (ARRAY(
    SELECT id FROM webhook_deliveries
    WHERE endpoint_id = $1 AND status <> 'pending' AND ($2::bigint[] IS NULL OR id = ANY ($2))
      AND ($3::text IS NULL OR status = $3) AND ($4::timestamptz IS NULL OR created_at >= $4)
    ORDER BY id LIMIT $5
))
"""

Row = Mapping[str, object]
Encode = Callable[[OrderEvent], bytes]


class PostgresWebhooks:
    """What operators do with endpoints; each change is one transaction with its entry in the audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        url: str,
        description: str,
        event_types: Sequence[str],
        customer_ids: Sequence[str],
        secret: bytes,
        cause: Cause,
    ) -> Row | None:
        """None when there are too many."""
        arguments = (url, description, list(event_types), list(customer_ids), secret)
        async with self._database.transaction() as connection:
            record = await connection.fetchrow(CREATE, *arguments)
            if record:
                await _note(connection, cause, "create", record["id"], {"url": url})
        return dict(record) if record else None

    async def list(self, *, before: int, limit: int) -> Sequence[Row]:
        async with self._database.connection() as connection:
            return [dict(record) for record in await connection.fetch(LIST, before, limit)]

    async def get(self, id: int) -> Row | None:
        async with self._database.connection() as connection:
            record = await connection.fetchrow(GET, id)
        return dict(record) if record else None

    async def change(self, id: int, changes: Mapping[str, object], cause: Cause) -> Row | None:
        names = ("url", "description", "event_types", "customer_ids", "enabled")
        async with self._database.transaction() as connection:
            record = await connection.fetchrow(CHANGE, id, *(changes.get(name) for name in names))
            if record:
                await _note(connection, cause, "change", id, changes)
        return dict(record) if record else None

    async def delete(self, id: int, cause: Cause) -> bool:
        """With all of its deliveries."""
        async with self._database.transaction() as connection:
            found = await connection.fetchval(DELETE, id) is not None
            if found:
                await _note(connection, cause, "delete", id, {})
        return found

    async def rotate(self, id: int, secret: bytes, overlap_seconds: float, cause: Cause) -> Row | None:
        async with self._database.transaction() as connection:
            record = await connection.fetchrow(ROTATE, id, secret, overlap_seconds)
            if record:
                await _note(connection, cause, "rotate", id, {"overlap_seconds": overlap_seconds})
        return dict(record) if record else None

    async def deliveries(self, id: int, *, status: str | None, before: int, limit: int) -> Sequence[Row]:
        async with self._database.connection() as connection:
            return [dict(record) for record in await connection.fetch(DELIVERIES, id, before, status, limit)]

    async def replay(
        self, id: int, ids: Sequence[int] | None, status: str | None, since: object, limit: int, cause: Cause
    ) -> int:
        async with self._database.transaction() as connection:
            wanted = list(ids) if ids is not None else None
            tag = await connection.execute(REPLAY, id, wanted, status, since, limit)
            replayed = int(tag.split()[-1])
            await _note(connection, cause, "replay", id, {"replayed": replayed})
        return replayed

    # what the service itself does

    async def subscriptions(self) -> Sequence[Subscription]:
        async with self._database.connection() as connection:
            return [Subscription(**record) for record in await connection.fetch(SUBSCRIPTIONS)]

    async def claim(self, room: Mapping[int, int], *, lease_seconds: float) -> Sequence[Delivery]:
        """Due deliveries of these endpoints, as many as each has room for; due again after the lease."""
        async with self._database.connection() as connection:
            records = await connection.fetch(CLAIM, list(room), list(room.values()), lease_seconds)
        return [
            Delivery(
                secrets=[secret for secret in (record["secret"], record["previous_secret"]) if secret],
                **{
                    name: record[name]
                    for name in ("id", "endpoint_id", "url", "message_id", "body", "attempts")
                },
            )
            for record in records
        ]

    async def delivered(self, delivery: Delivery, answer: Answer) -> None:
        async with self._database.connection() as connection:
            await connection.execute(DELIVERED, delivery.id, delivery.attempts, answer.status)

    async def failed(self, delivery: Delivery, answer: Answer, again_after_seconds: float | None) -> None:
        """`again_after_seconds` None: there is no further attempt."""
        words = answer.words()
        async with self._database.transaction() as connection:
            await connection.execute(
                FAILED, delivery.id, delivery.attempts, answer.status, words, again_after_seconds
            )
            if answer.gone:
                await connection.execute(DISABLE, delivery.endpoint_id, words)


async def fan_out(
    database: Database, subscriptions: Sequence[Subscription], encode: Encode
) -> tuple[int, bool]:
    """Write the deliveries of the next page of the log: how many, and whether there is more to do.

    Position and deliveries are one transaction, of one process at a time: each event becomes one delivery to
    each endpoint that wants it, whatever crashes.
    """
    async with database.transaction() as connection:
        cursor: int | None = await connection.fetchval(LOCK_CURSOR)
        if cursor is None:
            return 0, False
        head: int = await connection.fetchval(LOG_HEAD)
        # Before the first of them nobody wants anything, however long there was no endpoint.
        start = max(cursor, min(subscription.since for subscription in subscriptions))
        if start >= head:
            return 0, False
        page = await read_page(connection, start, head)
        added = await _add(connection, page, subscriptions, encode)
        await connection.execute(MOVE_CURSOR, page.position)
    return added, page.position < head


async def _add(
    connection: Connection, page: PageOfEvents, subscriptions: Sequence[Subscription], encode: Encode
) -> int:
    rows = []
    for event in page.events:
        takers = [subscription for subscription in subscriptions if subscription.takes(event)]
        if takers:
            told = (message_id(event), event.type, event.order.order_id, encode(event).decode())
            rows += [(taker.endpoint_id, *told) for taker in takers]
    if rows:
        await connection.execute(ADD, *map(list, zip(*rows, strict=True)))
    return len(rows)


async def _note(
    connection: Connection, cause: Cause, action: str, id: int, details: Mapping[str, object]
) -> None:
    await write_audit(connection, cause, f"webhook.{action}", f"webhook endpoint {id}", details)
