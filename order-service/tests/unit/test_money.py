"""Amounts: exact, bounded, and each in one spelling."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_service.domain.money import PRICE_MAX, canonical, price_problem

TOO_LOW = "must be greater than 0"
TOO_HIGH = "must be at most 10^12"
TOO_FINE = "must have at most 4 decimal places"

prices = st.integers(1, 10**16).map(lambda ten_thousandths: Decimal(ten_thousandths).scaleb(-4))


@pytest.mark.parametrize(
    "text",
    [
        "0.0001",
        "1E-4",
        "0.1",
        "1",
        "12.50",
        "1200.0",
        "1.50000000",
        "999999999999.9999",
        "1E+12",
        "1000000000000.0000000",
    ],
)
def test_an_amount_within_the_limits_is_a_price(text: str) -> None:
    assert price_problem(Decimal(text)) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0", TOO_LOW),
        ("-0", TOO_LOW),
        ("0E+5", TOO_LOW),
        ("-0.0001", TOO_LOW),
        ("-1E+999999", TOO_LOW),
        ("NaN", TOO_LOW),
        ("sNaN", TOO_LOW),
        ("Infinity", TOO_LOW),
        ("-Infinity", TOO_LOW),
        ("1000000000000.0001", TOO_HIGH),
        ("1000000000001", TOO_HIGH),
        ("1E+999999", TOO_HIGH),
        ("0.00001", TOO_FINE),
        ("1.00001", TOO_FINE),
        ("0.00010000000000000000000000000000000000000000001", TOO_FINE),
        ("999999999999.99999", TOO_FINE),
        ("1E-999999", TOO_FINE),
    ],
)
def test_an_amount_outside_the_limits_is_refused_with_its_problem(text: str, problem: str) -> None:
    assert price_problem(Decimal(text)) == problem


@given(st.decimals())
def test_every_decimal_is_a_price_exactly_when_arithmetic_says_so(amount: Decimal) -> None:
    exact = Fraction(amount) if amount.is_finite() else Fraction(0)
    is_price = 0 < exact <= 10**12 and (exact * 10_000).denominator == 1

    assert (price_problem(amount) is None) == is_price


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("12.50", "12.5"),
        ("1.2E+3", "1200"),
        ("1200.0", "1200"),
        ("1E-4", "0.0001"),
        ("1E+12", "1000000000000"),
        ("100", "100"),
        ("0.1000", "0.1"),
    ],
)
def test_an_amount_has_one_canonical_spelling(text: str, spelling: str) -> None:
    assert str(canonical(Decimal(text))) == spelling


@given(prices)
def test_the_canonical_spelling_keeps_the_amount_and_needs_no_exponent(price: Decimal) -> None:
    spelling = str(canonical(price))

    assert Decimal(spelling) == price
    assert "E" not in spelling
    assert not ("." in spelling and spelling.endswith(("0", ".")))


@given(prices)
def test_all_spellings_of_one_amount_become_the_same(price: Decimal) -> None:
    spellings = [
        price,
        price.normalize(),
        price.quantize(Decimal("0.0001")),
        Decimal(f"{price:E}"),
        canonical(price),
    ]

    assert len({str(canonical(spelling)) for spelling in spellings}) == 1


def test_the_largest_possible_total_is_exact() -> None:
    largest = PRICE_MAX * 1_000_000 * 1_000 - Decimal("0.0001")

    assert str(canonical(largest)) == "999999999999999999999.9999"
