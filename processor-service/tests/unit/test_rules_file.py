"""Rules from a TOML file, and which policy the settings choose."""

from pathlib import Path
from random import Random

import pytest

from processor_service.domain.decision import approve, reject
from processor_service.domain.order import Item, Order, OrderId
from processor_service.domain.rules import Rule, Ruleset
from processor_service.infrastructure.policies import CallablePolicy
from processor_service.infrastructure.rules_file import read_rules
from processor_service.main import configured_policy
from processor_service.settings import ProcessorSettings
from service_kit.errors import StartupError

GOOD = """
[[rules]]
skus = ["vodka", "водка"]
fail_reason = "Adults only"

[[rules]]
skus = ["potato"]
fail_reason = "Sold out 🍟"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


@pytest.fixture
def good_file(path: Path) -> Path:
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_the_rules_are_read_in_their_order(good_file: Path) -> None:
    assert read_rules(good_file, 0.5) == Ruleset(
        [
            Rule(skus=frozenset({"vodka", "водка"}), fail_reason="Adults only"),
            Rule(skus=frozenset({"potato"}), fail_reason="Sold out 🍟"),
        ],
        0.5,
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"not TOML", b"rules = 1", b'[[rules]]\nskus = []\nfail_reason = " "', b"\xff"],
)
def test_a_file_that_is_no_ruleset_is_told_in_one_line_that_names_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(StartupError) as raised:
        read_rules(path, 1.0)

    assert raised.value.exit_code == 2
    assert str(raised.value).startswith(f"APP__RULES_FILE: {path}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_told_in_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartupError) as raised:
        read_rules(tmp_path / name, 1.0)

    assert raised.value.exit_code == 2
    assert str(raised.value).startswith(f"APP__RULES_FILE: cannot read {tmp_path / name}: ")


def an_order(sku: str) -> Order:
    return Order(order_id=OrderId("o-1"), customer_id=None, items=(Item(sku=sku),), amount=None, version=1)


def settings(**changes: object) -> ProcessorSettings:
    return ProcessorSettings(db_dsn="postgresql://localhost/none", **changes)  # type: ignore[arg-type]


async def test_without_settings_the_built_in_rules_decide() -> None:
    policy = configured_policy(settings(), Random(1))

    assert await policy.decide([an_order("teapot"), an_order("laptop")]) == [
        reject("Pineapple/teapot embargo"),
        approve(),
    ]


async def test_a_file_replaces_the_built_in_rules_and_the_rate_still_counts(good_file: Path) -> None:
    policy = configured_policy(settings(rules_file=str(good_file), success_rate=0.0), Random(1))

    assert await policy.decide([an_order("vodka"), an_order("teapot")]) == [
        reject("Adults only"),
        reject("Random failure"),
    ]


def test_a_policy_of_the_users_own_replaces_all_rules() -> None:
    policy = configured_policy(settings(policy="processor_service.policy:approve"), Random(1))

    assert isinstance(policy, CallablePolicy)


@pytest.mark.parametrize(
    "wrong", [{"rules_file": "/no/such/rules.toml"}, {"policy": "no_such_module:decide"}]
)
def test_what_cannot_be_loaded_stops_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(StartupError):
        configured_policy(settings(**wrong), Random(1))
