"""The client for programs on asyncio. Its twin is `sync_client.py`, where each method is explained."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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
    def __call__(self, request: Request[T], /) -> Awaitable[T]: ...


class AsyncOrderProcessorClient:
    """Talks to both services; see OrderProcessorClient."""

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
        self._http = httpx.AsyncClient(**self._connection.options())
        self._offer()

    def acting_as(self, operator: str) -> Self:
        other = copy(self)
        other._connection = self._connection.acting_as(operator)
        other._offer()
        return other

    def _offer(self) -> None:
        self.orders = AsyncOrders(self._send)
        self.webhooks = AsyncWebhooks(self._send)
        self.order_service = AsyncOrderServiceAdmin(self._send, AdminRequests(Service.ORDER))
        self.processor_service = AsyncProcessorServiceAdmin(self._send, AdminRequests(Service.PROCESSOR))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _send(self, request: Request[T], /) -> T:
        attempts = Attempts(repeatable=request.repeatable, within_seconds=self._retry_seconds)
        while True:
            try:
                with self._connection.failures_of(request):
                    response = await self._http.request(**self._connection.arguments(request))
                return answer_of(request, response)
            except ClientError as failure:
                pause = attempts.pause_after(failure)
                if self._on_retry:
                    self._on_retry(failure)
            await asyncio.sleep(pause)


class AsyncOrders:
    """The public API: `/orders`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def create(self, order: NewOrder | bytes) -> CreatedOrder:
        return await self._send(requests.create_order(order))

    async def get(self, order_id: str, *, with_items: bool = False) -> Order:
        return await self._send(requests.get_order(order_id, with_items=with_items))

    def list(
        self,
        *,
        customer_id: str | None = None,
        status: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        starting_after: str | None = None,
    ) -> AsyncIterator[Order]:
        first = requests.list_orders(
            customer_id=customer_id,
            status=status,
            created_from=created_from,
            created_to=created_to,
            starting_after=starting_after,
        )
        return _each(self._send, requests.order_pages(first))

    async def page(
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
        return await self._send(
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

    async def cancel(self, order_id: str, reason: str | None = None) -> Order:
        return await self._send(requests.cancel_order(order_id, reason))

    async def bulk(self, orders: Iterable[NewOrder | bytes]) -> AsyncIterator[BulkResult]:
        for part in requests.bulk_parts(orders):
            for result in await self._send(part):
                yield result

    async def watch(self, order_id: str, *, within_seconds: float | None = None) -> AsyncIterator[Order]:
        seen: Order | None = None
        for pause in poll_pauses(within_seconds):
            order = await self.get(order_id)
            if order != seen:
                yield order
            if order.final:
                return
            seen = order
            await asyncio.sleep(pause)

    async def wait(self, order_id: str, *, within_seconds: float = 30.0) -> Order:
        async for order in self.watch(order_id, within_seconds=within_seconds):
            if order.final:
                return order
        return await self.get(order_id)

    async def timeline(self, order_id: str) -> Timeline:
        return await self._send(requests.get_timeline(order_id))


class AsyncServiceAdmin:
    """The admin API that both services have. Every change needs a reason, and the client an operator."""

    def __init__(self, send: Send, requests: AdminRequests) -> None:
        self._send = send
        self._requests = requests

    async def readiness(self) -> Readiness:
        return await self._send(self._requests.readiness())

    async def state(self) -> ServiceState:
        return await self._send(self._requests.state())

    def dead_letters(
        self, only: DeadLetterFilter = _EVERYTHING, *, after: int | None = None
    ) -> AsyncIterator[DeadLetter]:
        return _each(self._send, dead_letter_pages(self._requests.dead_letters(only, after=after)))

    async def dead_letters_page(
        self, only: DeadLetterFilter = _EVERYTHING, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None
    ) -> DeadLetterPage:
        return await self._send(self._requests.dead_letters(only, limit=limit, after=after))

    async def dead_letter(self, letter_id: int) -> DeadLetterInFull:
        return await self._send(self._requests.dead_letter(letter_id))

    async def dead_letter_groups(self) -> DeadLetterGroups:
        return await self._send(self._requests.dead_letter_groups())

    async def forecast(self, selection: Selection) -> Forecast:
        return await self._send(self._requests.forecast(selection))

    async def discard(self, selection: Selection, reason: str) -> int:
        return await self._send(self._requests.discard(selection, reason))

    async def start_replay(
        self,
        selection: Selection,
        reason: str,
        *,
        per_second: float | None = None,
        failure_share_max: float | None = None,
    ) -> Replay:
        return await self._send(
            self._requests.start_replay(
                selection, reason, per_second=per_second, failure_share_max=failure_share_max
            )
        )

    def replays(self, *, after: int | None = None) -> AsyncIterator[Replay]:
        return _each(self._send, replay_pages(self._requests.replays(after=after)))

    async def replays_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> ReplayPage:
        return await self._send(self._requests.replays(limit=limit, after=after))

    async def replay(self, replay_id: int) -> Replay:
        return await self._send(self._requests.replay(replay_id))

    async def pause_replay(self, replay_id: int, reason: str) -> Replay:
        return await self._send(self._requests.change_replay(replay_id, "pause", reason))

    async def resume_replay(self, replay_id: int, reason: str) -> Replay:
        return await self._send(self._requests.change_replay(replay_id, "resume", reason))

    async def cancel_replay(self, replay_id: int, reason: str) -> Replay:
        return await self._send(self._requests.change_replay(replay_id, "cancel", reason))

    async def pause_consuming(self, reason: str) -> Consuming:
        return await self._send(self._requests.change_consuming("pause", reason))

    async def resume_consuming(self, reason: str) -> Consuming:
        return await self._send(self._requests.change_consuming("resume", reason))

    def audit(self, *, after: int | None = None) -> AsyncIterator[AuditEntry]:
        return _each(self._send, audit_pages(self._requests.audit(after=after)))

    async def audit_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> AuditPage:
        return await self._send(self._requests.audit(limit=limit, after=after))

    def keys(self, *, after: int | None = None) -> AsyncIterator[ApiKey]:
        return _each(self._send, key_pages(self._requests.keys(after=after)))

    async def keys_page(self, *, limit: int = ENTRIES_PER_PAGE, after: int | None = None) -> ApiKeyPage:
        return await self._send(self._requests.keys(limit=limit, after=after))

    async def create_key(
        self,
        name: str,
        roles: Sequence[str],
        reason: str,
        *,
        customers: Sequence[str] | None = None,
        days: float | None = None,
    ) -> MadeApiKey:
        request = self._requests.create_key(name, roles, reason, customers=customers, days=days)
        return await self._send(request)

    async def rotate_key(self, key_id: int, reason: str, *, overlap_hours: float = 24.0) -> MadeApiKey:
        return await self._send(self._requests.rotate_key(key_id, overlap_hours, reason))

    async def revoke_key(self, key_id: int, reason: str) -> ApiKey:
        return await self._send(self._requests.revoke_key(key_id, reason))


class AsyncOrderServiceAdmin(AsyncServiceAdmin):
    async def flow(self, seconds: int = 900) -> Flow:
        return await self._send(self._requests.flow(seconds))

    async def stuck_orders(self, limit: int = 50, *, older_than_seconds: float = 30.0) -> StuckOrders:
        return await self._send(self._requests.stuck_orders(limit, older_than_seconds))

    async def reconcile(self, reason: str, order_ids: Sequence[str] | None = None) -> int:
        return await self._send(self._requests.reconcile(reason, order_ids))


class AsyncProcessorServiceAdmin(AsyncServiceAdmin):
    async def order_trace(self, order_id: str) -> dict[str, Any]:
        return await self._send(self._requests.order_trace(order_id))

    async def rules(self) -> Ruleset:
        return await self._send(self._requests.rules())

    async def check_rules(self, toml: str) -> Ruleset:
        return await self._send(self._requests.check_rules(toml))

    async def rehearse_rules(self, toml: str, *, last: int = 10_000) -> Rehearsal:
        return await self._send(self._requests.rehearse_rules(toml, last))

    async def reload_rules(self, reason: str) -> Ruleset:
        return await self._send(self._requests.reload_rules(reason))


class AsyncWebhooks:
    """Who is told of orders. Every change needs an operator; a `reason` is kept with it."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def create(
        self,
        url: str,
        *,
        description: str = "",
        event_types: Sequence[str] = (),
        customer_ids: Sequence[str] = (),
        reason: str = "",
    ) -> WebhookEndpoint:
        """The endpoint with its secret, which is never shown again. No filter means everything."""
        return await self._send(
            webhook_requests.create_endpoint(
                url,
                description=description,
                event_types=event_types,
                customer_ids=customer_ids,
                reason=reason,
            )
        )

    def list(self) -> AsyncIterator[WebhookEndpoint]:
        """Newest first."""
        return _each(self._send, webhook_requests.endpoints())

    async def get(self, endpoint_id: int) -> WebhookEndpoint:
        return await self._send(webhook_requests.endpoint(endpoint_id))

    async def change(self, endpoint_id: int, **changes: Any) -> WebhookEndpoint:
        """Of `url`, `description`, `event_types`, `customer_ids`, `enabled` and `reason` what is given."""
        return await self._send(webhook_requests.change_endpoint(endpoint_id, **changes))

    async def delete(self, endpoint_id: int, *, reason: str = "") -> None:
        """With all of its deliveries."""
        await self._send(webhook_requests.delete_endpoint(endpoint_id, reason))

    async def rotate(
        self, endpoint_id: int, *, overlap_seconds: float = 86_400.0, reason: str = ""
    ) -> WebhookEndpoint:
        """The endpoint with a new secret; the old one signs too until `overlap_seconds` are over."""
        return await self._send(
            webhook_requests.rotate_secret(endpoint_id, overlap_seconds=overlap_seconds, reason=reason)
        )

    def deliveries(self, endpoint_id: int, status: str | None = None) -> AsyncIterator[WebhookDelivery]:
        """Newest first."""
        return _each(self._send, webhook_requests.deliveries(endpoint_id, status))

    async def replay(
        self,
        endpoint_id: int,
        *,
        delivery_ids: Sequence[int] | None = None,
        status: str | None = None,
        since: datetime | None = None,
        reason: str = "",
    ) -> int:
        """Deliver again what has ended, 10,000 at most; how many."""
        replayed = await self._send(
            webhook_requests.replay(
                endpoint_id, delivery_ids=delivery_ids, status=status, since=since, reason=reason
            )
        )
        return replayed.replayed


async def _each(send: Send, first: Request[Page[T]]) -> AsyncIterator[T]:
    """The entries of all pages; a page is fetched when it is come to."""
    request: Request[Page[T]] | None = first
    while request:
        page = await send(request)
        for entry in page.entries:
            yield entry
        request = page.next
