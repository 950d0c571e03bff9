"""The server's side: sessions, statements that wait for each other, commits, deadlocks, lost connections.

Every step here is nobody's: it goes on when the client that asked is dead, until the server notices.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from simulation.database.arguments import holds_nul
from simulation.database.faults import DatabaseFaults, Fault
from simulation.database.rows import Transaction, Values, Waiting, Work
from simulation.database.statements import STATEMENTS, Tables
from simulation.loop import Owner, SimulatedLoop
from simulation.trace import Trace

COMMAND_TIMEOUT_SECONDS = 30.0
_ENDS_OF_A_FAILURE = {"COMMIT", "ROLLBACK", "ROLLBACK TO"}

Change = tuple[str, Any, Values | None, Values | None]
"""Table, key, values before and after: None when there is no row."""


class Session:
    """One connection. `lost` is what the client knows, `closed` what the server knows."""

    __slots__ = ("closed", "lost", "number", "owner", "running", "transaction")

    def __init__(self, number: int, owner: Owner | None) -> None:
        self.number = number
        self.owner = owner
        self.lost = False
        self.closed = False
        self.transaction: Transaction | None = None
        self.running: Request | None = None


class Request:
    """A statement, or a word about the transaction, on its way."""

    __slots__ = ("answer", "arguments", "arrived", "body", "fault", "session", "single", "what")

    def __init__(self, session: Session, what: str, arguments: tuple[Any, ...], answer: Any) -> None:
        self.session = session
        self.what = what
        self.arguments = arguments
        self.answer: asyncio.Future[Any] = answer
        self.fault: Fault | None = None
        self.arrived = False
        self.single = False
        """Whether it is a transaction of its own."""
        self.body: Waiting | None = None


class DatabaseServer:
    """`on_commit` sees every commit that changes something, just before it is visible."""

    def __init__(
        self,
        loop: SimulatedLoop,
        tables: Tables,
        faults: DatabaseFaults,
        trace: Trace,
        on_commit: Callable[[list[Change]], None],
        name: str = "database",
    ) -> None:
        self.loop = loop
        self.tables = tables
        self.faults = faults
        self.name = name
        self.up = True
        self.sessions: dict[int, Session] = {}
        self._trace = trace
        self._on_commit = on_commit
        self._count = 0
        self._words: dict[str, Callable[[Request], None]] = {
            "BEGIN": self._begin,
            "COMMIT": self._commit,
            "ROLLBACK": self._roll_back,
            "SAVEPOINT": self._savepoint,
            "RELEASE": self._release,
            "ROLLBACK TO": self._roll_back_to,
        }

    # connections

    def connect(self, owner: Owner | None) -> Session:
        self._count += 1
        session = self.sessions[self._count] = Session(self._count, owner)
        return session

    def disconnect(self, session: Session) -> None:
        """The server notices that the client is gone, or lets it go."""
        if session.closed:
            return
        session.closed = True
        del self.sessions[session.number]
        request, session.running = session.running, None
        if request and request.body:
            request.body.close()
        self._end(session, commit=False)

    def lose(self, session: Session, *, noticed_after: float | None = 0.0) -> None:
        """The connection breaks: the client learns it now, the server after a while."""
        if session.lost:
            return
        session.lost = True
        request = session.running
        if request:
            _settle(request, _connection_lost())
        if noticed_after:
            self.loop.later(noticed_after, self.disconnect, session)
        elif noticed_after is not None:
            self.disconnect(session)

    def stop(self) -> None:
        """As by a crash: what is committed stays, everything else is gone."""
        self.up = False
        for session in list(self.sessions.values()):
            self.lose(session)
            self.disconnect(session)

    def start(self) -> None:
        self.up = True

    def owner_died(self, owner: Owner, noticed_after: Callable[[], float]) -> None:
        for session in self.sessions.values():
            if session.owner is owner:
                self.loop.later(noticed_after(), self.disconnect, session)

    # requests

    def send(self, session: Session, what: str, arguments: tuple[Any, ...]) -> Request:
        request = Request(session, what, arguments, self.loop.create_future())
        session.running = request
        fault = request.fault = self.faults.of_statement()
        delay = self.faults.latency()
        if fault is Fault.SLOW:
            delay = self.faults.slowness()
            self.loop.later(COMMAND_TIMEOUT_SECONDS, self._time_out, request)
        elif fault is Fault.LOST_BEFORE:
            self.loop.later(delay, self.lose, session)
            return request
        elif fault is Fault.HALF_OPEN:
            self.loop.later(delay, self._half_open, session)
        self.loop.later(delay, self._arrive, request)
        return request

    def cancel(self, request: Request) -> None:
        """The client does not wait any more: what has not happened yet does not happen."""
        if request.session.running is request and not request.session.closed:
            self._fail(request, asyncpg.QueryCanceledError("canceling statement due to user request"))

    def reset(self, session: Session) -> None:
        """A connection goes back to the pool: what it left open is rolled back."""
        if session.lost:
            return
        if session.transaction is not None or session.running is not None:
            self.loop.later(self.faults.latency(), self.disconnect, session)
        else:
            self.disconnect(session)

    def _half_open(self, session: Session) -> None:
        self.lose(session, noticed_after=self.faults.unnoticed())

    def _time_out(self, request: Request) -> None:
        if not request.answer.done():
            _settle(request, TimeoutError())
            self.cancel(request)

    def _arrive(self, request: Request) -> None:
        session = request.session
        if session.closed or session.running is not request:
            return
        request.arrived = True
        transaction = session.transaction
        if request.fault is Fault.ERROR:
            self._fail(request, self.faults.error())
        elif transaction is not None and transaction.failed and request.what not in _ENDS_OF_A_FAILURE:
            self._fail(request, asyncpg.InFailedSQLTransactionError("current transaction is aborted"))
        elif word := self._words.get(request.what):
            word(request)
        elif holds_nul(request.arguments):
            self._fail(request, asyncpg.CharacterNotInRepertoireError("invalid byte sequence: 0x00"))
        else:
            if transaction is None:
                request.single = True
                transaction = session.transaction = Transaction(self.loop.time())
            statement = STATEMENTS[request.what]
            work = Work(transaction, transaction.began_at, self.loop.time)
            request.body = statement.model(work, self.tables, *request.arguments)
            self._go_on(request)

    def _go_on(self, request: Request) -> None:
        """Until the statement has to wait, or ends."""
        session, body = request.session, request.body
        if session.closed or session.running is not request or body is None:
            return
        transaction = session.transaction
        assert transaction
        transaction.waits_for = None
        try:
            while True:
                wait = next(body)
                if isinstance(wait, Transaction):
                    self._block(request, transaction, wait)
                    return
                if self.faults.pauses():
                    self.loop.later(self.faults.latency(), self._go_on, request)
                    return
        except StopIteration as end:
            if request.single:
                self._commit_now(session)
            self._answer(request, end.value)
        except asyncpg.PostgresError as error:
            self._fail(request, error)

    def _block(self, request: Request, transaction: Transaction, wait: Transaction) -> None:
        other: Transaction | None = wait
        while other is not None:
            if other is transaction:
                self._fail(request, asyncpg.DeadlockDetectedError("deadlock detected"))
                return
            other = other.waits_for
        transaction.waits_for = wait
        wait.waited_for_by.append(request)
        self.loop.later(COMMAND_TIMEOUT_SECONDS, self._time_out, request)

    # transactions

    def _begin(self, request: Request) -> None:
        request.session.transaction = Transaction(self.loop.time())
        self._answer(request, None)

    def _commit(self, request: Request) -> None:
        self._commit_now(request.session)
        self._answer(request, None)

    def _roll_back(self, request: Request) -> None:
        self._end(request.session, commit=False)
        self._answer(request, None)

    def _savepoint(self, request: Request) -> None:
        transaction = request.session.transaction
        assert transaction
        transaction.savepoint(*request.arguments)
        self._answer(request, None)

    def _release(self, request: Request) -> None:
        transaction = request.session.transaction
        assert transaction
        transaction.release(*request.arguments)
        self._answer(request, None)

    def _roll_back_to(self, request: Request) -> None:
        transaction = request.session.transaction
        assert transaction
        transaction.roll_back_to(*request.arguments)
        self._wake(transaction)
        self._answer(request, None)

    def _commit_now(self, session: Session) -> None:
        transaction = session.transaction
        self._end(session, commit=transaction is not None and not transaction.failed)

    def _end(self, session: Session, *, commit: bool) -> None:
        transaction, session.transaction = session.transaction, None
        if transaction is None:
            return
        if commit:
            changes = [(row.table.name, row.key, old, new) for row, old, new in transaction.changes()]
            if changes:
                self._on_commit(changes)
            transaction.commit()
        else:
            transaction.undo()
        self._wake(transaction)

    def _wake(self, transaction: Transaction) -> None:
        """Something that others wait for is free now: they look again."""
        waiting, transaction.waited_for_by = transaction.waited_for_by, []
        for request in waiting:
            self.loop.soon(self._go_on, request)

    # answers

    def _fail(self, request: Request, error: asyncpg.PostgresError) -> None:
        session = request.session
        if request.body:
            request.body.close()
        transaction = session.transaction
        if transaction is not None:
            transaction.waits_for = None
            if request.single:
                self._end(session, commit=False)
            else:
                transaction.fail()
                self._wake(transaction)
        self._answer(request, error)
        if isinstance(error, asyncpg.AdminShutdownError):
            self.loop.later(self.faults.latency(), self.lose, session)

    def _answer(self, request: Request, result: Any) -> None:
        session = request.session
        session.running = None
        if self._trace.keep:
            self._note(request, result)
        if request.fault is Fault.LOST_AFTER:
            session.running = request
            self.loop.later(self.faults.latency(), self.lose, session)
        else:
            delay = self.faults.latency()
            if delay:
                self.loop.later(delay, _settle, request, result)
            else:
                _settle(request, result)

    def _note(self, request: Request, result: Any) -> None:
        who = request.session.owner.name if request.session.owner else "?"
        statement = STATEMENTS.get(request.what)
        name = statement.name if statement else request.what
        told = f"{type(result).__name__}: {result}" if isinstance(result, Exception) else _shown(result)
        fault = f"  ({request.fault.value})" if request.fault else ""
        self._trace.add(self.loop.time(), who, f"{self.name} {request.session.number}: {name} {told}{fault}")


def _settle(request: Request, result: Any) -> None:
    answer = request.answer
    if answer.done():
        return
    if request.session.lost:
        result = _connection_lost()
    if isinstance(result, Exception):
        answer.set_exception(result)
        answer.exception()  # who asked may be dead
    else:
        answer.set_result(result)


def _connection_lost() -> Exception:
    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def _shown(result: Any) -> str:
    if not result:
        return ""
    names = [str(next((v for k, v in record.items() if k in _NAMES), "")) for record in result]
    return f"{len(result)}: {' '.join(names)}"


_NAMES = ("order_id", "event_key", "id", "count")
