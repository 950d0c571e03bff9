"""Rules as data: which goods make an order fail, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from processor_service.domain.decision import Decision, approve, reject
from processor_service.domain.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An order with any of `skus` fails for `fail_reason`."""

    skus: frozenset[str]
    fail_reason: str


BUILT_IN_RULES = (
    Rule(skus=frozenset({"pineapple_pizza", "teapot"}), fail_reason="Pineapple/teapot embargo"),
    Rule(skus=frozenset({"potato"}), fail_reason="Too fatty food"),
)

RANDOM_FAILURE = "Random failure"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Rules in their order: the first that applies decides. An order that none applies to succeeds with
    probability `success_rate`."""

    rules: Sequence[Rule] = BUILT_IN_RULES
    success_rate: float = 1.0

    def decide(self, order: Order, random: Random) -> Decision:
        skus = {item.sku for item in order.items}
        for rule in self.rules:
            if not rule.skus.isdisjoint(skus):
                return reject(rule.fail_reason)
        return approve() if random.random() < self.success_rate else reject(RANDOM_FAILURE)
