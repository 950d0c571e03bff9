"""The requests about webhooks. Changes are sent once only, as those of the admin API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from order_processor_client.admin_models import (
    WebhookDelivery,
    WebhookDeliveryPage,
    WebhookEndpoint,
    WebhookEndpointPage,
)
from order_processor_client.request import Page, Request, T, json_as, json_bytes, paged, path, query

_ENTRIES_PER_PAGE = 100


class _Deleted(msgspec.Struct):
    deleted: bool


class _Replayed(msgspec.Struct):
    replayed: int


def create_endpoint(url: str, **wanted: Any) -> Request[WebhookEndpoint]:
    return _change("POST", WebhookEndpoint, "/webhooks/endpoints", {"url": url, **wanted})


def endpoints() -> Request[Page[WebhookEndpoint]]:
    first = _get(WebhookEndpointPage, "/webhooks/endpoints", query(limit=_ENTRIES_PER_PAGE))
    return paged(first, lambda page: page.endpoints, after=lambda endpoint: endpoint.id)


def endpoint(endpoint_id: int) -> Request[WebhookEndpoint]:
    return _get(WebhookEndpoint, _path(endpoint_id))


def change_endpoint(endpoint_id: int, **changes: Any) -> Request[WebhookEndpoint]:
    return _change("PATCH", WebhookEndpoint, _path(endpoint_id), changes)


def delete_endpoint(endpoint_id: int, reason: str) -> Request[_Deleted]:
    return _change("DELETE", _Deleted, _path(endpoint_id), {"reason": reason})


def rotate_secret(endpoint_id: int, **wanted: Any) -> Request[WebhookEndpoint]:
    return _change("POST", WebhookEndpoint, _path(endpoint_id, "rotate"), wanted)


def deliveries(endpoint_id: int, status: str | None) -> Request[Page[WebhookDelivery]]:
    wanted = query(status=status, limit=_ENTRIES_PER_PAGE)
    first = _get(WebhookDeliveryPage, _path(endpoint_id, "deliveries"), wanted)
    return paged(first, lambda page: page.deliveries, after=lambda delivery: delivery.id)


def replay(
    endpoint_id: int,
    *,
    delivery_ids: Sequence[int] | None,
    status: str | None,
    since: datetime | None,
    reason: str,
) -> Request[_Replayed]:
    given = {"delivery_ids": delivery_ids, "status": status, "since": since, "reason": reason}
    wanted = {name: value for name, value in given.items() if value is not None}
    return _change("POST", _Replayed, _path(endpoint_id, "replay"), wanted)


def _path(endpoint_id: int, *steps: str) -> str:
    return path("webhooks", "endpoints", endpoint_id, *steps)


def _get(type_: type[T], where: str, wanted: dict[str, str] | None = None) -> Request[T]:
    return Request(method="GET", path=where, query=wanted or {}, parse=json_as(type_))


def _change(method: str, type_: type[T], where: str, body: Any) -> Request[T]:
    return Request(method=method, path=where, body=json_bytes(body), parse=json_as(type_), repeatable=False)
