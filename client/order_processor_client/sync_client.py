"""The client for programs that block. Its twin is `async_client.py`: the same words, awaited."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import httpx

from order_processor_client import order_requests as requests
from order_processor_client import webhook_requests
from order_processor_client.admin_models import (
    ApiKey,
    ApiKeyPage,
    AuditEntry,
    AuditPage,
    Consuming,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroups,
    DeadLetterInFull,
    DeadLetterPage,
    Flow,
    Forecast,
    MadeApiKey,
    Readiness,
    Rehearsal,
    Replay,
    ReplayPage,
    Ruleset,
    Selection,
    ServiceState,
    StuckOrders,
    WebhookDelivery,
    WebhookEndpoint,
)
from order_processor_client.admin_requests import (
    ENTRIES_PER_PAGE,
    AdminRequests,
    audit_pages,
    dead_letter_pages,
    key_pages,
    replay_pages,
)
from order_processor_client.connection import Connection
from order_processor_client.errors import ClientError
from order_processor_client.models import BulkResult, CreatedOrder, NewOrder, Order, OrderPage, Timeline
from order_processor_client.request import Page, Request, Service, answer_of
from order_processor_client.retry import Attempts, poll_pauses

T = TypeVar("T")
_EVERYTHING = DeadLetterFilter()


class Send(Protocol):
    def __call__(self, request: Request[T], /) -> T: ...


class OrderProcessorClient:
    """Talks to both services; safe to share between threads.

    URLs and key come from `ORDER_PROCESSOR_URL`, `ORDER_PROCESSOR_PROCESSOR_URL` and `ORDER_PROCESSOR_KEY`
    where they are not given. A request that may be sent twice is sent again when no answer comes, or the
    answer is "not now", until `retry_seconds` after the first attempt; `on_retry` is told each time why.

    Raises ProblemError, Unreachable or UnexpectedAnswer from every method, Misconfigured from this one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        processor_url: str | None = None,
        key: str | None = None,
        operator: str | None = None,
        timeout_seconds: float = 10.0,
        retry_seconds: float = 30.0,
        on_retry: Callable[[ClientError], None] | None = None,
    ) -> None:
        self._connection = Connection.of(
            url=url, processor_url=processor_url, key=key, operator=operator, timeout_seconds=timeout_seconds
        )
        self._retry_seconds = retry_seconds
        self._on_retry = on_retry
        self._http = httpx.Client(**self._connection.options())
        self._offer()

    def acting_as(self, operator: str) -> Self:
        """The same client for another operator, on the same connections: closing one closes both."""
        other = copy(self)
        other._connection = self._connection.acting_as(operator)
        other._offer()
        return other

    def _offer(self) -> None:
        self.orders = Orders(self._send)
        self.webhooks = Webhooks(self._send)
        self.order_service = OrderServiceAdmin(self._send, AdminRequests(Service.ORDER))
        self.processor_service = ProcessorServiceAdmin(self._send, AdminRequests(Service.PROCESSOR))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _send(self, request: Request[T], /) -> T:
        attempts = Attempts(repeatable=request.repeatable, within_seconds=self._retry_seconds)
        while True:
            try:
                with self._connection.failures_of(request):
                    response = self._http.request(**self._connection.arguments(request))
                return answer_of(request, response)
            except ClientError as failure:
                pause = attempts.pause_after(failure)
                if self._on_retry:
                    self._on_retry(failure)
            time.sleep(pause)


class Orders:
    """The public API: `/orders`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def create(self, order: NewOrder | bytes) -> CreatedOrder:
        """Sending the same order again changes nothing; other content under its id is an OrderConflict."""
        return self._send(requests.create_order(order))

    def get(self, order_id: str, *, with_items: bool = False) -> Order:
        return self._send(requests.get_order(order_id, with_items=with_items))

    def list(
        self,
        *,
        customer_id: str | None = None,
        status: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        starting_after: str | None = None,
    ) -> Iterator[Order]:
        """All that match, newest first, fetched a page at a time; `starting_after` is an order's id."""
        first = requests.list_orders(
            customer_id=customer_id,
            status=status,
            created_from=created_from,
            created_to=created_to,
            starting_after=starting_after,
        )
        return _each(self._send, requests.order_pages(first))

    def page(
        self,
        *,
        customer_id: str | None = None,
        status: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        limit: int = requests.ORDERS_PER_PAGE,
        starting_after: str | None = None,
        ending_before: str | None = None,
    ) -> OrderPage:
        """Some of them; `starting_after` and `ending_before` are ids of the orders beside the page."""
        return self._send(
            requests.list_orders(
                customer_id=customer_id,
                status=status,
                created_from=created_from,
                created_to=created_to,
                limit=limit,
                starting_after=starting_after,
                ending_before=ending_before,
            )
        )

    def cancel(self, order_id: str, reason: str | None = None) -> Order:
        """Only while it is pending."""
        return self._send(requests.cancel_order(order_id, reason))

    def bulk(self, orders: Iterable[NewOrder | bytes]) -> Iterator[BulkResult]:
        """What became of each, in their order; sent in parts, so both ends may be endless."""
        for part in requests.bulk_parts(orders):
            yield from self._send(part)

    def watch(self, order_id: str, *, within_seconds: float | None = None) -> Iterator[Order]:
        """The order now, and each time that it has changed, until it is final or the time is over."""
        seen: Order | None = None
        for pause in poll_pauses(within_seconds):
            order = self.get(order_id)
            if order != seen:
                yield order
            if order.final:
                return
            seen = order
            time.sleep(pause)

    def wait(self, order_id: str, *, within_seconds: float = 30.0) -> Order:
        """The order once it is final, or as it is when the time is over."""
        for order in self.watch(order_id, within_seconds=within_seconds):
            if order.final:
                return order
        return self.get(order_id)

    def timeline(self, order_id: str) -> Timeline:
        return self._send(requests.get_timeline(order_id))


class ServiceAdmin:
    """The admin API that both services have. Every change needs a reason, and the client an operator."""

    def __init__(self, send: Send, requests: AdminRequests) -> None:
        self._send = send
        self._requests = requests

    def readiness(self) -> Readiness:
        return self._send(self._requests.readiness())

    def state(self) -> ServiceState:
        return self._send(self._requests.state())

    def dead_letters(
        self, only: DeadLetterFilter = _EVERYTHING, *, after: int | None = None
    ) -> Iterator[DeadLetter]:
        """Newest first."""
        return _each(self._send, dead_letter_pages(self._requests.dead_letters(only, after=after)))

    def dead_letters_page(
        self, only: DeadLetterFilter = _EVERYTHING, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None
    ) -> DeadLetterPage:
        return self._send(self._requests.dead_letters(only, limit=limit, after=after))

    def dead_letter(self, letter_id: int) -> DeadLetterInFull:
        return self._send(self._requests.dead_letter(letter_id))

    def dead_letter_groups(self) -> DeadLetterGroups:
        return self._send(self._requests.dead_letter_groups())

    def forecast(self, selection: Selection) -> Forecast:
        """What a replay would do; nothing is changed."""
        return self._send(self._requests.forecast(selection))

    def discard(self, selection: Selection, reason: str) -> int:
        """How many were deleted."""
        return self._send(self._requests.discard(selection, reason))

    def start_replay(
        self,
        selection: Selection,
        reason: str,
        *,
        per_second: float | None = None,
        failure_share_max: float | None = None,
    ) -> Replay:
        """What is selected is frozen now. The service goes on alone; it stops when too much fails."""
        return self._send(
            self._requests.start_replay(
                selection, reason, per_second=per_second, failure_share_max=failure_share_max
            )
        )

    def replays(self, *, after: int | None = None) -> Iterator[Replay]:
        """Newest first."""
        return _each(self._send, replay_pages(self._requests.replays(after=after)))

    def replays_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> ReplayPage:
        return self._send(self._requests.replays(limit=limit, after=after))

    def replay(self, replay_id: int) -> Replay:
        return self._send(self._requests.replay(replay_id))

    def pause_replay(self, replay_id: int, reason: str) -> Replay:
        return self._send(self._requests.change_replay(replay_id, "pause", reason))

    def resume_replay(self, replay_id: int, reason: str) -> Replay:
        return self._send(self._requests.change_replay(replay_id, "resume", reason))

    def cancel_replay(self, replay_id: int, reason: str) -> Replay:
        return self._send(self._requests.change_replay(replay_id, "cancel", reason))

    def pause_consuming(self, reason: str) -> Consuming:
        return self._send(self._requests.change_consuming("pause", reason))

    def resume_consuming(self, reason: str) -> Consuming:
        return self._send(self._requests.change_consuming("resume", reason))

    def audit(self, *, after: int | None = None) -> Iterator[AuditEntry]:
        """Newest first."""
        return _each(self._send, audit_pages(self._requests.audit(after=after)))

    def audit_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> AuditPage:
        return self._send(self._requests.audit(limit=limit, after=after))

    def keys(self, *, after: int | None = None) -> Iterator[ApiKey]:
        """Newest first."""
        return _each(self._send, key_pages(self._requests.keys(after=after)))

    def keys_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> ApiKeyPage:
        return self._send(self._requests.keys(limit=limit, after=after))

    def create_key(
        self,
        name: str,
        roles: Sequence[str],
        reason: str,
        *,
        customers: Sequence[str] | None = None,
        days: float | None = None,
    ) -> MadeApiKey:
        """Its `secret` is told this once. Restricted to `customers`, if any; good for `days`, if any."""
        request = self._requests.create_key(name, roles, reason, customers=customers, days=days)
        return self._send(request)

    def rotate_key(self, key_id: int, reason: str, *, overlap_hours: float = 24.0) -> MadeApiKey:
        """Its successor; both are good for so many hours."""
        return self._send(self._requests.rotate_key(key_id, overlap_hours, reason))

    def revoke_key(self, key_id: int, reason: str) -> ApiKey:
        return self._send(self._requests.revoke_key(key_id, reason))


class OrderServiceAdmin(ServiceAdmin):
    def flow(self, seconds: int = 900) -> Flow:
        """What went through in the last `seconds`."""
        return self._send(self._requests.flow(seconds))

    def stuck_orders(self, limit: int = 50, *, older_than_seconds: float = 30.0) -> StuckOrders:
        return self._send(self._requests.stuck_orders(limit, older_than_seconds))

    def reconcile(self, reason: str, order_ids: Sequence[str] | None = None) -> int:
        """How many orders were told of again."""
        return self._send(self._requests.reconcile(reason, order_ids))


class ProcessorServiceAdmin(ServiceAdmin):
    def order_trace(self, order_id: str) -> dict[str, Any]:
        """Its part of the timeline."""
        return self._send(self._requests.order_trace(order_id))

    def rules(self) -> Ruleset:
        return self._send(self._requests.rules())

    def check_rules(self, toml: str) -> Ruleset:
        """The ruleset that the text holds. What is wrong with it is in the ProblemError."""
        return self._send(self._requests.check_rules(toml))

    def rehearse_rules(self, toml: str, *, last: int = 10_000) -> Rehearsal:
        """What these rules would have decided otherwise about the last orders; nothing is changed."""
        return self._send(self._requests.rehearse_rules(toml, last))

    def reload_rules(self, reason: str) -> Ruleset:
        return self._send(self._requests.reload_rules(reason))


class Webhooks:
    """Who is told of orders. Every change needs an operator; a `reason` is kept with it."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def create(
        self,
        url: str,
        *,
        description: str = "",
        event_types: Sequence[str] = (),
        customer_ids: Sequence[str] = (),
        reason: str = "",
    ) -> WebhookEndpoint:
        """The endpoint with its secret, which is never shown again. No filter means everything."""
        return self._send(
            webhook_requests.create_endpoint(
                url,
                description=description,
                event_types=event_types,
                customer_ids=customer_ids,
                reason=reason,
            )
        )

    def list(self) -> Iterator[WebhookEndpoint]:
        """Newest first."""
        return _each(self._send, webhook_requests.endpoints())

    def get(self, endpoint_id: int) -> WebhookEndpoint:
        return self._send(webhook_requests.endpoint(endpoint_id))

    def change(self, endpoint_id: int, **changes: Any) -> WebhookEndpoint:
        """Of `url`, `description`, `event_types`, `customer_ids`, `enabled` and `reason` what is given."""
        return self._send(webhook_requests.change_endpoint(endpoint_id, **changes))

    def delete(self, endpoint_id: int, *, reason: str = "") -> None:
        """With all of its deliveries."""
        self._send(webhook_requests.delete_endpoint(endpoint_id, reason))

    def rotate(
        self, endpoint_id: int, *, overlap_seconds: float = 86_400.0, reason: str = ""
    ) -> WebhookEndpoint:
        """The endpoint with a new secret; the old one signs too until `overlap_seconds` are over."""
        return self._send(
            webhook_requests.rotate_secret(endpoint_id, overlap_seconds=overlap_seconds, reason=reason)
        )

    def deliveries(self, endpoint_id: int, status: str | None = None) -> Iterator[WebhookDelivery]:
        """Newest first."""
        return _each(self._send, webhook_requests.deliveries(endpoint_id, status))

    def replay(
        self,
        endpoint_id: int,
        *,
        delivery_ids: Sequence[int] | None = None,
        status: str | None = None,
        since: datetime | None = None,
        reason: str = "",
    ) -> int:
        """Deliver again what has ended, 10,000 at most; how many."""
        replayed = self._send(
            webhook_requests.replay(
                endpoint_id, delivery_ids=delivery_ids, status=status, since=since, reason=reason
            )
        )
        return replayed.replayed


def _each(send: Send, first: Request[Page[T]]) -> Iterator[T]:
    """The entries of all pages; a page is fetched when it is come to."""
    request: Request[Page[T]] | None = first
    while request:
        page = send(request)
        yield from page.entries
        request = page.next
