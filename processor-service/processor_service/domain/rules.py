"""Rules as data: which goods make an order fail, and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from processor_service.domain.decision import Decision
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
class Hit:
    """Rule `number` (from 1) applies to an order because of `sku`, the first that the rule names."""

    number: int
    sku: str
    fail_reason: str


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Rules in their order: the first that applies decides. An order that none applies to succeeds with
    probability `success_rate`. Two rulesets that decide alike in every case of that have one `version`."""

    rules: Sequence[Rule] = BUILT_IN_RULES
    success_rate: float = 1.0
    version: str = field(init=False)
    _first: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """The number of the first rule that names a SKU: an order costs the same however many rules there are."""

    def __post_init__(self) -> None:
        first: dict[str, int] = {}
        for number, rule in enumerate(self.rules, start=1):
            for sku in rule.skus:
                first.setdefault(sku, number)
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "version", _version(self.rules, self.success_rate))

    def hit(self, order: Order) -> Hit | None:
        """What the rules alone say of the order, without any chance."""
        first = self._first
        numbers = [(first[item.sku], index) for index, item in enumerate(order.items) if item.sku in first]
        if not numbers:
            return None
        number, index = min(numbers)
        return Hit(number, order.items[index].sku, self.rules[number - 1].fail_reason)

    def decide(self, order: Order, random: Random) -> Decision:
        if hit := self.hit(order):
            return Decision(hit.fail_reason, rule=hit.number, sku=hit.sku, ruleset_version=self.version)
        reason = None if random.random() < self.success_rate else RANDOM_FAILURE
        return Decision(reason, ruleset_version=self.version)


def _version(rules: Sequence[Rule], success_rate: float) -> str:
    """Twelve hexadecimal digits; neither the form of a file nor the order of the SKUs in a rule counts."""
    content = [[sorted(rule.skus), rule.fail_reason] for rule in rules]
    text = json.dumps([content, float(success_rate)], separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]
