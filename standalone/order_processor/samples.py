"""The two sample orders of the README, and what becomes of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx

SAMPLES: Sequence[Mapping[str, Any]] = (
    {
        "order_id": "ord-sample-success",
        "customer_id": "cust-123",
        "items": [
            {"sku": "laptop", "quantity": 1, "price": 1200.0},
            {"sku": "mouse", "quantity": 2, "price": 25.0},
        ],
    },
    {
        "order_id": "ord-embargo-1",
        "customer_id": "cust-embargo",
        "items": [
            {"sku": "pineapple_pizza", "quantity": 1, "price": 15.0},
            {"sku": "teapot", "quantity": 1, "price": 30.0},
        ],
    },
)

_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOutcome:
    """The order as the service shows it, and how long it took from POST to there.

    `milliseconds` is None for an order of an earlier run; an order still `pending` ran out of time.
    """

    order: Mapping[str, Any]
    milliseconds: float | None


async def submit(
    sample: Mapping[str, Any], order_service_url: str, *, patience_seconds: float = 10.0
) -> SampleOutcome:
    """Post the sample and follow it until it is final. Raises httpx.HTTPError when it is not accepted."""
    # Over plain HTTP; to read the certificates of all authorities would take a tenth of a second.
    async with httpx.AsyncClient(base_url=order_service_url, trust_env=False, verify=False) as client:  # noqa: S501
        await client.get("/health")  # the connection is opened before the clock starts
        started = perf_counter()
        answer = await client.post("/orders", json=sample)
        answer.raise_for_status()
        order = answer.json()
        while order["status"] == "pending" and perf_counter() - started < patience_seconds:
            await asyncio.sleep(_POLL_SECONDS)
            order = (await client.get(f"/orders/{sample['order_id']}")).raise_for_status().json()
        elapsed_milliseconds = (perf_counter() - started) * 1000
    replayed = "idempotent-replayed" in answer.headers
    return SampleOutcome(order=order, milliseconds=None if replayed else elapsed_milliseconds)
