"""Rows, and the transactions that lock and change them."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

Values = dict[str, Any]


class Row:
    """One key of one table.

    `values` is what is committed (None: nothing). A `holder` has the row locked; when it has `changed` it,
    `pending` is what the row will be if it commits.
    """

    __slots__ = ("changed", "holder", "key", "pending", "table", "values")

    def __init__(self, table: "Table", key: Any) -> None:
        self.table = table
        self.key = key
        self.values: Values | None = None
        self.holder: Transaction | None = None
        self.changed = False
        self.pending: Values | None = None


class Table:
    """`identity` counts outside of transactions, so that ids are not in the order of commits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[Any, Row] = {}
        self.identity = 0

    def next_id(self) -> int:
        self.identity += 1
        return self.identity

    def committed(self) -> list[Values]:
        """What a transaction that begins now would see."""
        return [row.values for row in self.rows.values() if row.values is not None]


class Transaction:
    """`held` keeps the rows in the order of their locking, each with what it was before.

    `savepoints` are names, each with how many rows were held when it was set.
    """

    __slots__ = ("began_at", "failed", "held", "savepoints", "waited_for_by", "waits_for")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.failed = False
        self.held: list[tuple[Row, bool, bool, Values | None]] = []
        self.savepoints: list[tuple[str, int]] = []
        self.waits_for: Transaction | None = None
        self.waited_for_by: list[Any] = []

    def in_doubt(self) -> bool:
        """Whether committing would change anything."""
        return any(row.changed for row, *_ in self.held)

    def changes(self) -> Iterator[tuple[Row, Values | None, Values | None]]:
        """Each changed row once, with what is committed and what will be."""
        for row, was_mine, *_ in self.held:
            if row.changed and not was_mine:
                yield row, row.values, row.pending

    def commit(self) -> None:
        for row, *_ in self.held:
            if row.holder is self:
                if row.changed:
                    row.values, row.pending, row.changed = row.pending, None, False
                row.holder = None
                if row.values is None and row.table.rows.get(row.key) is row:
                    del row.table.rows[row.key]

    def savepoint(self, name: str) -> None:
        self.savepoints.append((name, len(self.held)))

    def release(self, name: str) -> None:
        del self.savepoints[self._place(name) :]

    def roll_back_to(self, name: str) -> None:
        """The savepoint itself stays: what fails next is undone as far as there."""
        place = self._place(name)
        del self.savepoints[place + 1 :]
        self.undo(self.savepoints[place][1])
        self.failed = False

    def fail(self) -> None:
        """Nothing goes any more before the rollback; what came after the last savepoint is undone at once."""
        self.undo(self.savepoints[-1][1] if self.savepoints else 0)
        self.failed = True

    def _place(self, name: str) -> int:
        return max(place for place, (some, _) in enumerate(self.savepoints) if some == name)

    def undo(self, mark: int = 0) -> None:
        """Take back everything after `mark`, locks too."""
        while len(self.held) > mark:
            row, was_mine, changed, pending = self.held.pop()
            row.changed, row.pending = changed, pending
            if not was_mine:
                row.holder = None
                if row.values is None and row.table.rows.get(row.key) is row:
                    del row.table.rows[row.key]


Waiting = Generator[Transaction | float, None, Any]
"""A statement yields the transaction that it has to wait for, or seconds in which others may run."""


class Work:
    """What a statement does to rows: it reads first, as of its beginning, and then locks and writes.

    All reading has to come before the first `yield`: that is the snapshot of the statement. `now` is when the
    transaction began, `clock` tells the moment itself.
    """

    __slots__ = ("clock", "now", "transaction")

    def __init__(self, transaction: Transaction, now: float, clock: Callable[[], float]) -> None:
        self.transaction = transaction
        self.now = now
        self.clock = clock

    def visible(self, row: Row) -> Values | None:
        return row.pending if row.changed and row.holder is self.transaction else row.values

    def read(self, table: Table) -> list[tuple[Row, Values]]:
        return [(row, values) for row in table.rows.values() if (values := self.visible(row)) is not None]

    def free(self, row: Row) -> bool:
        return row.holder is None or row.holder is self.transaction

    def lock(self, row: Row) -> Generator[Transaction | float, None, Values | None]:
        """Wait for the lock; then the row as it is now, None when it is gone."""
        while not self.free(row):
            assert row.holder
            yield row.holder
        if row.holder is None:
            if row.values is None:
                return None
            self.take(row)
        return self.visible(row)

    def take(self, row: Row) -> None:
        if row.holder is None:
            self.transaction.held.append((row, False, False, None))
            row.holder = self.transaction

    def write(self, row: Row, values: Values | None) -> None:
        """Of a row that is locked."""
        if row.changed or self.transaction.savepoints:
            self.transaction.held.append((row, True, row.changed, row.pending))
        row.changed, row.pending = True, values

    def insert_new(self, table: Table, key: Any) -> Generator[Transaction | float, None, Row | None]:
        """A locked row to write to, or None on conflict; waits for whoever inserts or changes that key."""
        while True:
            row = table.rows.get(key)
            if row is None:
                row = table.rows[key] = Row(table, key)
            elif not self.free(row) and row.changed:
                assert row.holder
                yield row.holder
                continue
            elif self.visible(row) is not None:
                return None
            self.take(row)
            return row

    def insert_or_lock(
        self, table: Table, key: Any
    ) -> Generator[Transaction | float, None, tuple[Row, Values | None]]:
        """As `insert_new`, but on conflict the row that is there, locked, and its values."""
        while True:
            row = yield from self.insert_new(table, key)
            if row is not None:
                return row, None
            present = table.rows.get(key)
            if present is not None and (values := (yield from self.lock(present))) is not None:
                return present, values
