"""`POST /orders/bulk`: many orders in one request, each with a result of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from order_service.api.bulk_body import Elements, Lines, NotSplittable, Part, Splitter, TooLong
from order_service.api.bulk_results import BulkResults
from order_service.api.problems import customer_not_allowed, invalid, problem_of
from order_service.api.schemas import parse_order
from order_service.application.create_orders import CreateOutcome
from order_service.application.ports import CreateOrder
from order_service.domain.errors import InvalidOrder, Violation
from service_kit.errors import Unavailable
from service_kit.group_commit import GroupCommit, Overloaded
from service_kit.http.body import BODY_BYTES_MAX, body_chunks
from service_kit.http.endpoint import Endpoint, charge
from service_kit.http.principal import Role, principal_of
from service_kit.http.problems import Problem, instance_of
from service_kit.http.query import read_query
from service_kit.http.traced import span_of
from service_kit.observability.trace_context import continued_trace

BULK_BYTES_MAX = 33_554_432
BULK_ORDERS_MAX = 10_000
BULK_SECONDS_MAX = 120.0
REQUESTS_MAX = 8
"""More at a time are refused. So what they hold is bounded: a batch, a piece of the body, the results."""

_BATCH_ORDERS, _BATCH_BYTES = 256, BODY_BYTES_MAX
_BATCHES_AT_A_TIME = 2  # half of what may wait for its commit: single orders find room at any time
_BYTES_AT_A_TIME = 65_536
"""After so many bytes others get their turn: a large request delays nobody by more than some milliseconds."""
_ERRORS_MAX, _WORDS_LENGTH_MAX = 5, 60

Intake = GroupCommit[CreateOrder, CreateOutcome]


def bulk_route(intake: Intake, random: Random) -> Route:
    turns = asyncio.Semaphore(_BATCHES_AT_A_TIME)
    running: set[_Bulk] = set()

    async def post_orders(request: Request) -> Response:
        read_query(request.scope, {})
        if len(running) >= REQUESTS_MAX:
            raise problem_of(Overloaded())
        bulk = _Bulk(request, intake, turns, random)
        running.add(bulk)
        try:
            await bulk.take_all()
        finally:
            running.discard(bulk)
        return bulk.response()

    return Route("/orders/bulk", Endpoint(post_orders, Role.WRITE), methods=["POST"])


class _Bulk:
    """One request, from its first byte to its response.

    Nothing is answered before all is read: few clients read while they write. Batches are committed as they
    are read, so that a client whose request breaks off finds some of its orders stored, and sends it again.
    """

    def __init__(self, request: Request, intake: Intake, turns: asyncio.Semaphore, random: Random) -> None:
        self._request = request
        self._intake = intake
        self._turns = turns
        self._random = random
        self._splitter: Splitter | None = None
        self._batch: list[Part] = []
        self._batch_bytes = 0
        self._blank_lines = 0
        self._outage: Unavailable | None = None
        self._results = BulkResults(instance_of(request.scope))

    async def take_all(self) -> None:
        """Raises Problem when the request as a whole is at fault, and nothing of it was taken."""
        try:
            await self._read()
        except (Problem, NotSplittable) as fault:
            problem = fault if isinstance(fault, Problem) else _invalid(f"is not readable: {fault}")
            await self._store()
            if not self._results:
                raise problem from fault
            self._results.add(problem)  # of everything from here on
        else:
            await self._store()
            if not self._results:
                raise _invalid(f"must have 1 to {BULK_ORDERS_MAX} orders")

    def response(self) -> Response:
        """200 when each order is there, else 207: each result tells its own."""
        status = 200 if self._results.all_there else 207
        if isinstance(self._splitter, Elements):
            return Response(self._results.as_array(), status, media_type="application/json")
        return Response(self._results.as_lines(), status, media_type="application/x-ndjson")

    # reading

    async def _read(self) -> None:
        chunks = body_chunks(self._request, bytes_max=BULK_BYTES_MAX, seconds_max=BULK_SECONDS_MAX)
        async for chunk in chunks:
            for begin in range(0, len(chunk), _BYTES_AT_A_TIME):
                await self._split(chunk[begin : begin + _BYTES_AT_A_TIME])
        if self._splitter:
            for part in self._splitter.end():
                await self._take(part)

    async def _split(self, piece: bytes) -> None:
        self._splitter = self._splitter or _splitter_of(piece)
        if self._splitter:
            for part in self._splitter.feed(piece):
                await self._take(part)
        await asyncio.sleep(0)

    async def _take(self, part: Part) -> None:
        blank = isinstance(self._splitter, Lines) and isinstance(part, bytes) and not part.strip()
        taken = self._blank_lines if blank else len(self._results) + len(self._batch)
        if taken == BULK_ORDERS_MAX:
            raise Problem(413, "TooManyOrders", f"A request may have {BULK_ORDERS_MAX} orders at most.")
        if blank:
            self._blank_lines += 1
            return
        self._batch.append(part)
        self._batch_bytes += len(part) if isinstance(part, bytes) else 0
        if len(self._batch) == _BATCH_ORDERS or self._batch_bytes >= _BATCH_BYTES:
            await self._store()

    # storing

    async def _store(self) -> None:
        """Commit the batch with those of others, and add its results in their order."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        charge(self._request.scope, len(batch))
        async with self._turns:
            orders = [order async for order in self._commands(batch)]
            outcomes = iter(await self._outcomes([each for each in orders if isinstance(each, CreateOrder)]))
        for order in orders:
            self._results.add(next(outcomes) if isinstance(order, CreateOrder) else order)

    async def _outcomes(self, commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome | BaseException]:
        if self._outage:  # the others would only wait for the same
            return [self._outage] * len(commands)
        outcomes = await self._intake.submit_all(commands)
        self._outage = next((each for each in outcomes if isinstance(each, Unavailable)), None)
        return outcomes

    async def _commands(self, batch: Sequence[Part]) -> AsyncIterator[CreateOrder | Problem]:
        parsed = 0
        for part in batch:
            yield self._command(part)
            parsed += len(part) if isinstance(part, bytes) else 0
            if parsed >= _BYTES_AT_A_TIME:
                parsed = 0
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _command(self, part: Part) -> CreateOrder | Problem:
        if isinstance(part, TooLong):
            return Problem(413, "PayloadTooLarge", f"An order may have {BODY_BYTES_MAX} bytes at most.")
        try:
            order = parse_order(part)
            accepted_at = asyncio.get_running_loop().time()
        except InvalidOrder as error:
            return invalid(
                "The order is not valid.", [_short(each) for each in error.violations[:_ERRORS_MAX]]
            )
        if not principal_of(self._request.scope).may_see(order.customer_id):
            return customer_not_allowed(order.customer_id)
        came_with = self._request.headers.get("traceparent")
        traceparent = span_of(self._request) or continued_trace(came_with, self._random)
        return CreateOrder(order=order, traceparent=traceparent, accepted_at=accepted_at)


def _splitter_of(chunk: bytes) -> Splitter | None:
    """By the first character: a bracket begins an array. None as long as there is none."""
    first = chunk.lstrip()[:1]
    if not first:
        return None
    return Elements(BODY_BYTES_MAX) if first == b"[" else Lines(BODY_BYTES_MAX)


def _invalid(message: str) -> Problem:
    return invalid("The orders are not valid.", [Violation((), message)])


def _short(violation: Violation) -> Violation:
    """What is told of a fault is bounded, whatever names an order has for its fields."""
    location = tuple(
        each[:_WORDS_LENGTH_MAX] if isinstance(each, str) else each for each in violation.location
    )
    return Violation(location, violation.message[:_WORDS_LENGTH_MAX])
