"""A text in TOML becomes a ruleset, or everything that is wrong with it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor_service.application.read_ruleset import InvalidRules, read_ruleset
from processor_service.domain.rules import Rule

NEEDED = "a string of 1 to {} characters, not blank, without control characters"
SKU, REASON = NEEDED.format("255"), NEEDED.format("1,000")


def rule(skus: str = '["a"]', fail_reason: str = '"why"', more: str = "") -> str:
    return f"[[rules]]\nskus = {skus}\nfail_reason = {fail_reason}\n{more}\n"


def faults(text: str | bytes) -> list[str]:
    with pytest.raises(InvalidRules) as caught:
        read_ruleset(text.encode() if isinstance(text, str) else text, 1.0)
    assert str(caught.value) == "; ".join(str(fault) for fault in caught.value.faults)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("text", ["rules = []", "\ufeffrules = []", "# nothing\r\nrules = []\r\n"])
def test_there_may_be_no_rules_at_all(text: str) -> None:
    assert list(read_ruleset(text.encode(), 1.0).rules) == []


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "\u202eevil", "'; DROP TABLE orders; --", "🍕" * 255, "%s{0}"]
)
def test_text_of_any_kind_is_only_text(hostile: str) -> None:
    text = rule(f'["{hostile}"]', f'"{hostile}"')

    assert list(read_ruleset(text.encode(), 1.0).rules) == [
        Rule(skus=frozenset({hostile}), fail_reason=hostile)
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["there are no tables [[rules]]"]),
        ("rules = 1", ["rules must be tables [[rules]]"]),
        ("[rules]", ["rules must be tables [[rules]]"]),
        ("rules = [1]", ["rule 1: must be a table with skus and fail_reason"]),
        ("[[rule]]", ["'rule' is not a known field", "there are no tables [[rules]]"]),
        ('rules = []\n"\\u001b[2J" = 1', ["'\\x1b[2J' is not a known field"]),
        ("[[rules]]", ["rule 1: skus is missing", "rule 1: fail_reason is missing"]),
        (rule(more='sku = "typo"'), ["rule 1: 'sku' is not a known field"]),
        (rule('"a"'), ["rule 1: skus must be an array of at least one string"]),
        (rule("[]"), ["rule 1: skus must be an array of at least one string"]),
        (rule('["a", 1, ""]'), [f"rule 1: skus[1] must be {SKU}", f"rule 1: skus[2] must be {SKU}"]),
        (rule('["a\\u0000"]'), [f"rule 1: skus[0] must be {SKU}"]),
        (rule(f'["{"a" * 256}"]'), [f"rule 1: skus[0] must be {SKU}"]),
        (rule(fail_reason="1"), [f"rule 1: fail_reason must be {REASON}"]),
        (rule(fail_reason='" \\n"'), [f"rule 1: fail_reason must be {REASON}"]),
        (rule(fail_reason='"a\\u001b[31m"'), [f"rule 1: fail_reason must be {REASON}"]),
        (rule(fail_reason=f'"{"a" * 1001}"'), [f"rule 1: fail_reason must be {REASON}"]),
        (rule() + rule("[]"), ["rule 2: skus must be an array of at least one string"]),
        ("rules = " + "[" * 5000, ["arrays or tables are nested too deeply"]),
    ],
)
def test_each_fault_is_told_with_its_rule(text: str, told: list[str]) -> None:
    assert faults(text) == told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("not TOML", 1),
        (rule() + "\n\noops =\n", 7),
        (rule().encode() + b'\nname = "\xff"', 6),
        ("rules = []\nrules = []", 2),
        ("rules = []\nn = " + "1" * 5000, None),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: str | bytes, line: int | None) -> None:
    [fault] = faults(text)

    assert fault.startswith(f"line {line}: ") if line else not fault.startswith("line ")


def test_of_very_many_faults_the_first_hundred_are_told() -> None:
    assert len(faults(rule("[]") * 1000)) == 100


@given(st.binary())
def test_whatever_the_bytes_are_there_is_a_ruleset_or_faults(content: bytes) -> None:
    try:
        read_ruleset(content, 1.0)
    except InvalidRules as invalid:
        assert invalid.faults
