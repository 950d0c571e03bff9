"""What this service's database knows of the way of one order."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from order_service.application.ports import OrderHistory, Step
from order_service.domain.order import OrderId
from order_service.infrastructure.events import ORDER_CREATED
from order_service.infrastructure.rows import COLUMNS, to_order
from service_kit.postgres.database import Database, Record
from service_kit.postgres.whereabouts import TO_THE_END, WaitsFor, whereabouts
from service_kit.whereabouts import Halt, Publication

FIND = f"""
SELECT {COLUMNS}, reemitted_at, accepted_at, accepted_by, applied_by
FROM orders WHERE order_id = $1
"""

# The event of a final order was published before its result was applied, but for a repetition that
# crossed it.
_REPETITION = timedelta(minutes=1)


class PostgresOrderHistories:
    """Implements OrderHistories; `service` and `subject_field` are what steps and events say."""

    def __init__(self, database: Database, *, service: str, subject_field: str, waits_for: WaitsFor) -> None:
        self._database = database
        self._service = service
        self._subject_field = subject_field
        self._waits_for = waits_for

    async def find(self, order_id: OrderId) -> OrderHistory | None:
        """As of one moment: an event that is just being published is not missed."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            record = await connection.fetchrow(FIND, order_id)
            if record is None:
                return None
            is_final = record["status"] != "pending"
            found = await whereabouts(
                connection,
                order_id,
                subject_field=self._subject_field,
                since=[moment for moment in (record["created_at"], record["reemitted_at"]) if moment],
                until=record["updated_at"] + _REPETITION if is_final else TO_THE_END,
                waits_for=self._waits_for,
            )
        created = [halt for halt in found.halts if halt.detail["event_type"] == ORDER_CREATED]
        others = [halt for halt in found.halts if halt not in created]
        told = [one for one in found.publications if one.event_type == ORDER_CREATED]
        told_of_end = [one for one in found.publications if one not in told]
        return OrderHistory(
            order=to_order(record),
            before=[
                *self._stored(record),
                *self._published(told),
                *map(self._halted, created),
            ],
            after=[*map(self._halted, others), *self._ended(record), *self._published(told_of_end)],
            problems=found.problems,
        )

    def _stored(self, record: Record) -> Iterator[Step]:
        for step, at in (("accepted", record["accepted_at"]), ("committed", record["created_at"])):
            if at is not None:
                yield Step(step=step, at=at, by=record["accepted_by"], service=self._service, detail={})

    def _published(self, publications: Sequence[Publication]) -> Iterator[Step]:
        for number, publication in enumerate(publications, start=1):
            detail = {"event_type": publication.event_type, "number": number}
            moments = {"published": publication.published_at, "confirmed": publication.confirmed_at}
            for step, at in moments.items():
                yield Step(step=step, at=at, by=publication.relay, service=self._service, detail=detail)

    def _halted(self, halt: Halt) -> Step:
        return Step(step=halt.step, at=halt.at, by=None, service=self._service, detail=halt.detail)

    def _ended(self, record: Record) -> Iterator[Step]:
        if record["status"] == "pending":
            return
        cancelled = record["status"] == "cancelled"
        names = ("cancel_reason", "version") if cancelled else ("status", "fail_reason", "version")
        yield Step(
            step="cancelled" if cancelled else "applied",
            at=record["updated_at"],
            by=record["applied_by"],
            service=self._service,
            detail={name: record[name] for name in names},
        )
