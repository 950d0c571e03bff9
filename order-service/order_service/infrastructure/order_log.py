"""The log of orders' changes: how far it is complete, and what stands in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from order_service.domain.event import EventType, OrderEvent
from order_service.domain.money import canonical
from order_service.domain.order import OrderSummary, Status
from service_kit.postgres.database import Connection, Database, Record

LOOK_ROWS_MAX = 5_000
READ_ROWS_MAX = 250
"""Of a page: making the events of one keeps the event loop for about 2 ms."""

# `unbroken`: up to where no position is missing. The snapshot is the one that the positions were read with.
LOOK = """
WITH head AS (SELECT greatest(position, $1::bigint) AS position FROM order_log_head),
unseen AS (
    SELECT position, row_number() OVER (ORDER BY position) AS number
    FROM (SELECT position FROM order_log WHERE position > (SELECT position FROM head)
          ORDER BY position LIMIT $2) AS next
)
SELECT (SELECT position FROM head) AS head,
    (SELECT max(position) FROM unseen WHERE position = (SELECT position FROM head) + number) AS unbroken,
    (SELECT max(position) FROM unseen) AS last,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running
"""

# Greater than the number of every transaction that has one. The snapshot's xmax would not do: it is one more
# than that of the last that has ended, and others behind it may run.
OWN_TRANSACTION = "SELECT pg_current_xact_id()::text::bigint"

ADVANCE = "UPDATE order_log_head SET position = $1 WHERE position < $1"

# What never changes of an order is read from the order itself.
READ = """
SELECT log.position, log.at, log.type, log.version, log.reason,
    orders.order_id, orders.customer_id, orders.amount, orders.created_at
FROM (SELECT * FROM order_log WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3) AS log
LEFT JOIN orders USING (order_id)
ORDER BY log.position
"""

KEPT = "SELECT forgotten, position FROM order_log_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one statement saw beyond `head`; transactions are numbered in the order of their first writes."""

    head: int
    unbroken: int | None
    last: int | None
    oldest_running: int


@dataclass(slots=True)
class LogHead:
    """Up to `position` the log is complete: what is there is all that will ever be there.

    Positions are given in the order of writing, and become visible in the order of commits. So behind a
    missing one somebody may still write, or nobody any more, when its transaction was rolled back. Whoever
    writes it had a number before a later position could be seen: when all have ended that had one by then,
    what is missing stays missing. Without a missing position nobody is waited for.

    A transaction gets its number with its first write. So each statement that writes to the log writes the
    order before: else it could have a position, and no number yet.
    """

    position: int = 0
    _in_doubt_up_to: int = 0
    _until_has_ended: int = 0

    def saw(self, look: Look) -> int:
        """Move on as far as `look` allows, and return the position."""
        self.position = max(self.position, look.head, look.unbroken or 0)
        if self._in_doubt_up_to > self.position and look.oldest_running >= self._until_has_ended:
            self.position = self._in_doubt_up_to
        return self.position

    def doubts(self, look: Look) -> bool:
        """Whether `look` saw something behind a missing position, and nothing else is in doubt."""
        return look.last is not None and look.last > self.position >= self._in_doubt_up_to

    def wait(self, look: Look, next_transaction: int) -> None:
        """Take what `look` saw for complete once all have ended that have a number before `next_transaction`.

        Which was given after that look.
        """
        self._in_doubt_up_to, self._until_has_ended = look.last or 0, next_transaction


@dataclass(frozen=True, slots=True)
class PageOfEvents:
    """Events in their order; the log has been read up to `position`."""

    events: Sequence[OrderEvent]
    position: int


@dataclass(slots=True)
class PostgresOrderLog:
    """Implements OrderLog. Any number of processes may advance the head at once."""

    database: Database
    _head: LogHead = field(default_factory=LogHead)

    async def advance(self) -> tuple[int, bool]:
        """How far the log is complete, for all processes to know; and whether there may be more already."""
        async with self.database.connection() as connection:
            record = await connection.fetchrow(LOOK, self._head.position, LOOK_ROWS_MAX)
            assert record, "the table of the head has one row"
            look = Look(**record)
            position = self._head.saw(look)
            if self._head.doubts(look):
                self._head.wait(look, await connection.fetchval(OWN_TRANSACTION))
            if position > look.head:
                await connection.execute(ADVANCE, position)
        return position, position - look.head >= LOOK_ROWS_MAX

    async def read(self, after: int, up_to: int) -> PageOfEvents:
        """The next events, bounded; `up_to` may not be beyond the head."""
        async with self.database.connection() as connection:
            return await read_page(connection, after, up_to)

    async def kept(self) -> tuple[int, int]:
        """Between which positions the log can be read: after the first, up to the second."""
        async with self.database.connection() as connection:
            record = await connection.fetchrow(KEPT)
        assert record, "the table of the head has one row"
        return record["forgotten"], record["position"]


async def read_page(connection: Connection, after: int, up_to: int) -> PageOfEvents:
    records = await connection.fetch(READ, after, up_to, READ_ROWS_MAX)
    last = records[-1]["position"] if len(records) == READ_ROWS_MAX else up_to
    return PageOfEvents([_event(record) for record in records if record["order_id"] is not None], last)


def _event(record: Record) -> OrderEvent:
    type = EventType(record["type"])
    return OrderEvent(
        position=record["position"],
        type=type,
        at=record["at"],
        order=OrderSummary(
            order_id=record["order_id"],
            customer_id=record["customer_id"],
            total_amount=canonical(record["amount"]),
            status=type.status,
            version=record["version"],
            fail_reason=record["reason"] if type.status is Status.FAILED else None,
            cancel_reason=record["reason"] if type.status is Status.CANCELLED else None,
            created_at=record["created_at"],
            updated_at=record["at"],
        ),
    )
