"""The orders of a run: what is posted, and what a policy does with them."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import msgspec

from order_service.api.schemas import parse_order
from order_service.domain.order import Order
from processor_service.application.ports import Policy
from processor_service.domain.decision import Postponement, Verdict
from processor_service.domain.order import Order as OrderToDecide
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.policies import RulesetPolicy

_SKUS = ("laptop", "teapot", "potato", "mouse", "pineapple_pizza", "lamp", "chair")
CURSED = "cursed"


def order_id(number: int) -> str:
    return f"o-{number:02d}"


@lru_cache(maxsize=1024)
def order_body(number: int, variant: int) -> bytes:
    """Contents of one order id: other variants have other contents."""
    items = [
        {"sku": _SKUS[number % len(_SKUS)], "quantity": 1 + variant, "price": 12.5},
        {"sku": "pen", "quantity": number + 1, "price": 0.1},
    ]
    return msgspec.json.encode(
        {"order_id": order_id(number), "customer_id": f"c-{number % 5}", "items": items}
    )


@lru_cache(maxsize=1024)
def parsed_order(number: int, variant: int) -> Order:
    return parse_order(order_body(number, variant))


class SimulatedPolicy:
    """Implements Policy: the rules, with a chance in each decision; slow, postponing or failing at times.

    Deciding twice gives two answers, so that every second decision that comes through is seen.
    """

    def __init__(self, random: Random, postponements: dict[str, int], slow_rate: float) -> None:
        self._random = random
        self._rules: Policy = RulesetPolicy(Ruleset(success_rate=0.6), random)
        self._postponements = postponements
        self._slow_rate = slow_rate

    async def decide(self, orders: Sequence[OrderToDecide]) -> Sequence[Verdict]:
        for order in orders:
            if order.order_id.startswith(CURSED):
                raise ValueError("a cursed order")
        if orders and self._random.random() < self._slow_rate:
            await asyncio.sleep(self._random.uniform(0.001, 2.0))
        verdicts = await self._rules.decide(orders)
        return [self._postponed(order) or verdict for order, verdict in zip(orders, verdicts, strict=True)]

    def _postponed(self, order: OrderToDecide) -> Postponement | None:
        left = self._postponements.get(order.order_id, 0)
        if not left:
            return None
        self._postponements[order.order_id] = left - 1
        delay = self._random.choice((None, 0.5, 3.0))
        return Postponement(reason="sold out", delay_seconds=delay, counts=left % 2 == 0)
