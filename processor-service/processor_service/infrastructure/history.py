"""What this service's database knows of the way of one order."""

from collections.abc import Iterator, Sequence

from processor_service.application.ports import OrderHistory, Step
from processor_service.domain.order import OrderId
from processor_service.infrastructure.decided_orders import ORDER_PROCESSED
from service_kit.postgres.database import Database, Record
from service_kit.postgres.whereabouts import WaitsFor, whereabouts
from service_kit.whereabouts import Halt, Publication

FIND_STATE = """
SELECT version, status, fail_reason, attempt_count, rule, sku, ruleset_version, received_at, decided_at,
       decided_by
FROM processing_states WHERE order_id = $1
"""

_DECISION = ("version", "fail_reason", "rule", "sku", "ruleset_version")


class PostgresOrderHistories:
    """Implements OrderHistories; `service` and `subject_field` are what steps and events say."""

    def __init__(self, database: Database, *, service: str, subject_field: str, waits_for: WaitsFor) -> None:
        self._database = database
        self._service = service
        self._subject_field = subject_field
        self._waits_for = waits_for

    async def find(self, order_id: OrderId) -> OrderHistory:
        """As of one moment: an event that is just being published is not missed."""
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            record = await connection.fetchrow(FIND_STATE, order_id)
            found = await whereabouts(
                connection,
                order_id,
                subject_field=self._subject_field,
                since=[record["decided_at"]] if record else [],
                waits_for=self._waits_for,
            )
        answers = [halt for halt in found.halts if halt.detail["event_type"] == ORDER_PROCESSED]
        orders = [halt for halt in found.halts if halt not in answers]
        return OrderHistory(
            order_id=order_id,
            steps=[
                *map(self._halted, orders),
                *(self._decided(record) if record else ()),
                *self._answered(found.publications),
                *map(self._halted, answers),
            ],
            problems=found.problems,
        )

    def _decided(self, record: Record) -> Iterator[Step]:
        by = record["decided_by"]
        if record["received_at"] is not None:
            attempt = {"attempt": record["attempt_count"]}
            yield Step(
                step="received", at=record["received_at"], by=by, service=self._service, detail=attempt
            )
        detail = {"outcome": record["status"], **{name: record[name] for name in _DECISION}}
        yield Step(step="decided", at=record["decided_at"], by=by, service=self._service, detail=detail)

    def _answered(self, publications: Sequence[Publication]) -> Iterator[Step]:
        for number, publication in enumerate(publications, start=1):
            detail = {
                "event_type": publication.event_type,
                "number": number,
                "published_at": publication.published_at,
                "confirmed_at": publication.confirmed_at,
            }
            at, by = publication.confirmed_at, publication.relay
            yield Step(step="answered", at=at, by=by, service=self._service, detail=detail)

    def _halted(self, halt: Halt) -> Step:
        return Step(step=halt.step, at=halt.at, by=None, service=self._service, detail=halt.detail)
