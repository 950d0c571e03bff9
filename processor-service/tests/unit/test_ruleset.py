"""Deciding by rules as data."""

import re
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor_service.domain.decision import Decision, approve, reject
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import BUILT_IN_RULES, Rule, Ruleset
from processor_service.infrastructure.policies import RulesetPolicy

EMBARGO = reject("Pineapple/teapot embargo")
FATTY = reject("Too fatty food")
RANDOM = reject("Random failure")


def an_order(*skus: str) -> Order:
    items = tuple(Item(sku=sku) for sku in skus)
    return Order(order_id=OrderId("o-1"), customer_id=None, items=items, amount=None, version=1)


@pytest.mark.parametrize(
    ("skus", "decision"),
    [
        (["laptop"], approve()),
        (["pineapple_pizza"], EMBARGO),
        (["teapot"], EMBARGO),
        (["laptop", "teapot", "mouse"], EMBARGO),
        (["potato"], FATTY),
        (["laptop", "potato"], FATTY),
        (["potato", "teapot"], EMBARGO),
        (["pineapple_pizza", "potato"], EMBARGO),
        ([], approve()),
        (["Teapot", "TEAPOT", "teapot ", "teapots", "pineapple pizza", "картофель"], approve()),
    ],
)
def test_the_built_in_rules_decide_in_their_order(skus: list[str], decision: Decision) -> None:
    assert Ruleset().decide(an_order(*skus), Random(1)) == decision


def test_of_several_rules_that_apply_the_first_decides() -> None:
    first, second = Rule(skus=frozenset({"a"}), fail_reason="1"), Rule(skus=frozenset({"b"}), fail_reason="2")

    assert Ruleset([first, second]).decide(an_order("b", "a"), Random(1)) == reject("1")
    assert Ruleset([second, first]).decide(an_order("b", "a"), Random(1)) == reject("2")


@given(st.integers())
def test_at_the_rate_one_all_succeed_and_at_the_rate_zero_none(seed: int) -> None:
    assert Ruleset(success_rate=1.0).decide(an_order("laptop"), Random(seed)) == approve()
    assert Ruleset(success_rate=0.0).decide(an_order("laptop"), Random(seed)) == RANDOM


@given(st.integers(), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_rule_decides_whatever_the_rate(seed: int, success_rate: float) -> None:
    assert Ruleset(BUILT_IN_RULES, success_rate).decide(an_order("teapot"), Random(seed)) == EMBARGO


def test_about_that_share_succeeds_and_the_others_fail_at_random() -> None:
    random = Random(20240229)
    ruleset = Ruleset(success_rate=0.7)

    decisions = [ruleset.decide(an_order("laptop"), random) for _ in range(10_000)]

    assert 6_800 <= decisions.count(approve()) <= 7_200
    assert set(decisions) == {approve(), RANDOM}


def test_an_order_that_a_rule_decides_uses_up_no_randomness() -> None:
    random = Random(3)
    before = random.getstate()

    Ruleset(success_rate=0.5).decide(an_order("potato"), random)

    assert random.getstate() == before


async def test_as_a_policy_the_rules_give_a_verdict_for_each_order() -> None:
    policy = RulesetPolicy(Ruleset(), Random(1))

    assert await policy.decide([an_order("laptop"), an_order("teapot"), an_order("potato")]) == [
        approve(),
        EMBARGO,
        FATTY,
    ]
    assert await policy.decide([]) == []


@pytest.mark.parametrize(
    ("skus", "rule", "sku"),
    [
        (["laptop"], None, None),
        (["laptop", "potato"], 2, "potato"),
        (["potato", "teapot", "pineapple_pizza"], 1, "teapot"),
        (["pineapple_pizza", "teapot"], 1, "pineapple_pizza"),
    ],
)
def test_a_decision_says_which_rule_decided_and_because_of_what(
    skus: list[str], rule: int | None, sku: str | None
) -> None:
    decision = Ruleset().decide(an_order(*skus), Random(1))

    assert (decision.rule, decision.sku, decision.ruleset_version) == (rule, sku, Ruleset().version)


def test_what_a_decision_rests_on_makes_it_no_other_decision() -> None:
    assert Decision("why", rule=1, sku="a", ruleset_version="1") == reject("why")


def ruleset(*rules: tuple[Sequence[str], str], success_rate: float = 1.0) -> Ruleset:
    made = [Rule(skus=frozenset(skus), fail_reason=reason) for skus, reason in rules]
    return Ruleset(made, success_rate)


def test_the_version_is_of_what_the_rules_say() -> None:
    one = ruleset((["a", "b"], "why"), (["c"], "because"))

    assert re.fullmatch("[0-9a-f]{12}", one.version)
    assert ruleset((["b", "a", "b"], "why"), (["c"], "because")).version == one.version
    others = [
        ruleset((["a", "b"], "why"), (["c"], "because"), success_rate=0.5),
        ruleset((["c"], "because"), (["a", "b"], "why")),
        ruleset((["a"], "why"), (["b", "c"], "because")),
        ruleset((["a", "b", "c"], "why")),
        ruleset((['a","b'], "why"), (["c"], "because")),
        ruleset(),
    ]
    assert len({one.version, *(other.version for other in others)}) == 7


def test_the_version_of_the_built_in_rules_is_the_same_everywhere() -> None:
    """Processes that decide together say the same; a change of this one is a change of the rules."""
    assert Ruleset().version == "0b4c375f4ea9"
    assert ruleset(("hgfedcba", "why")).version == "f97d8f673f62"


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1)), st.lists(st.sampled_from("abcdefg")))
def test_the_hit_is_that_of_the_first_rule_that_names_one_of_the_goods(
    rules: list[list[str]], skus: list[str]
) -> None:
    hit = ruleset(*((names, "why") for names in rules)).hit(an_order(*skus))

    numbers = [number for number, names in enumerate(rules, start=1) if set(names) & set(skus)]
    assert (hit.number if hit else None) == (numbers[0] if numbers else None)
    if hit:
        assert hit.sku == next(sku for sku in skus if sku in rules[hit.number - 1])
