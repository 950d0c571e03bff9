"""The results of a bulk request: one for each order, in their order."""

import structlog

from order_service.api.problems import order_conflict, problem_of
from order_service.api.schemas import encode_order
from order_service.application.create_orders import CreateOutcome, Creation
from service_kit.http.problems import Problem, problem_body

log = structlog.stdlib.get_logger()


class BulkResults:
    """Kept as bytes. `all_there` says whether each order so far is stored, now or before."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._results: list[bytes] = []
        self.all_there = True

    def __len__(self) -> int:
        return len(self._results)

    def add(self, result: CreateOutcome | BaseException) -> None:
        """The outcome of an order, or why it has none."""
        if isinstance(result, BaseException):
            self._add_problem(_problem(result))
        elif result.creation is Creation.CONFLICT:
            self._add_problem(order_conflict(result.order.order_id))
        else:
            replayed = b',"replayed":true' if result.creation is Creation.REPLAYED else b""
            self._add(201, b'%b,"order":%b' % (replayed, encode_order(result.order)))

    def as_array(self) -> bytes:
        return b"[" + b",\n".join(self._results) + b"]"

    def as_lines(self) -> bytes:
        return b"\n".join([*self._results, b""])

    def _add_problem(self, problem: Problem) -> None:
        self.all_there = False
        self._add(problem.status, b',"problem":' + problem_body(problem, self._instance))

    def _add(self, status: int, rest: bytes) -> None:
        self._results.append(b'{"index":%d,"status":%d%b}' % (len(self._results), status, rest))


def _problem(error: BaseException) -> Problem:
    if isinstance(error, Problem):
        return error
    try:
        return problem_of(error)
    except Exception as defect:
        # Of this order alone: the others have been committed without it.
        log.error("bulk_order_failed", exc_info=defect)
        return Problem.of_status(500, "The service failed to store this order; the failure is logged.")
