"""What makes an order an order."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_service.domain.errors import InvalidOrder, Violation
from order_service.domain.order import Item, Order, Status, new_order

CONTROL_CHARACTERS = [chr(code) for code in (*range(0x00, 0x20), 0x7F, *range(0x80, 0xA0))]


def an_item(sku: str = "laptop", quantity: int = 1, price: str = "1") -> Item:
    return Item(sku=sku, quantity=quantity, price=Decimal(price))


def an_order(order_id: str = "o-1", customer_id: str = "c-1", items: Sequence[Item] = (an_item(),)) -> Order:
    return new_order(order_id, customer_id, items)


def violations_of(
    order_id: str = "o-1", customer_id: str = "c-1", items: Sequence[Item] = (an_item(),)
) -> list[Violation]:
    with pytest.raises(InvalidOrder) as raised:
        new_order(order_id, customer_id, items)
    return raised.value.violations


def test_a_new_order_is_pending_at_version_1() -> None:
    order = an_order()

    assert (order.status, order.version, order.fail_reason) == (Status.PENDING, 1, None)


@pytest.mark.parametrize(
    "text", ["x", "x" * 255, "заказ-1", "訂單", "🍕" * 255, "a b", "..", "a%2Fb?c#d", "\xa0", "\u200b"]
)
def test_every_text_of_1_to_255_characters_may_be_an_id_or_a_sku(text: str) -> None:
    order = an_order(text, text, [an_item(sku=text)])

    assert (order.order_id, order.customer_id, order.items[0].sku) == (text, text, text)


@pytest.mark.parametrize("text", ["", "x" * 256, "🍕" * 256])
def test_a_text_that_is_empty_or_too_long_is_refused_wherever_it_stands(text: str) -> None:
    message = "must have 1 to 255 characters"

    assert violations_of(order_id=text) == [Violation(("order_id",), message)]
    assert violations_of(customer_id=text) == [Violation(("customer_id",), message)]
    assert violations_of(items=[an_item(sku=text)]) == [Violation(("items", 0, "sku"), message)]


@pytest.mark.parametrize("character", CONTROL_CHARACTERS, ids=lambda character: f"U+{ord(character):04X}")
def test_a_control_character_is_refused_wherever_it_stands(character: str) -> None:
    message = "must not contain control characters"
    text = f"a{character}b"

    assert violations_of(order_id=text) == [Violation(("order_id",), message)]
    assert violations_of(customer_id=text) == [Violation(("customer_id",), message)]
    assert violations_of(items=[an_item(sku=text)]) == [Violation(("items", 0, "sku"), message)]


def test_a_slash_is_refused_in_the_order_id_only() -> None:
    assert violations_of(order_id="a/b") == [Violation(("order_id",), "must not contain '/'")]
    assert an_order(customer_id="a/b", items=[an_item(sku="a/b")]).customer_id == "a/b"


@pytest.mark.parametrize("quantity", [1, 2, 999_999, 1_000_000])
def test_a_quantity_from_one_to_a_million_is_taken(quantity: int) -> None:
    assert an_order(items=[an_item(quantity=quantity)]).items[0].quantity == quantity


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 10**30, -(10**30)])
def test_any_other_quantity_is_refused(quantity: int) -> None:
    expected = [Violation(("items", 0, "quantity"), "must be from 1 to 1000000")]

    assert violations_of(items=[an_item(quantity=quantity)]) == expected


@pytest.mark.parametrize("count", [1, 1_000])
def test_an_order_may_have_one_to_a_thousand_items(count: int) -> None:
    assert len(an_order(items=[an_item()] * count).items) == count


@pytest.mark.parametrize("count", [0, 1_001])
def test_any_other_number_of_items_is_refused(count: int) -> None:
    assert violations_of(items=[an_item()] * count) == [Violation(("items",), "must have 1 to 1000 items")]


def test_all_violations_are_told_at_once() -> None:
    bad = [an_item(), an_item(sku="", quantity=0, price="0"), an_item(price="1.00001")]

    locations = [violation.location for violation in violations_of("a/\n", "", bad)]

    assert locations == [
        ("order_id",),
        ("customer_id",),
        ("order_id",),
        ("items", 1, "sku"),
        ("items", 1, "quantity"),
        ("items", 1, "price"),
        ("items", 2, "price"),
    ]


def test_violations_of_items_beyond_the_allowed_number_are_not_looked_for() -> None:
    found = violations_of(items=[an_item(quantity=0)] * 5_000)

    assert found[0] == Violation(("items",), "must have 1 to 1000 items")
    assert len(found) == 1 + 1_000


def test_the_error_in_words_names_every_violation() -> None:
    with pytest.raises(InvalidOrder, match=r"must have 1 to 255 characters; must have 1 to 1000 items"):
        new_order("", "c", [])


def test_binary_floats_would_be_wrong_where_the_total_is_exact() -> None:
    order = an_order(items=[an_item(price="0.1"), an_item(price="0.2"), an_item(quantity=3, price="0.1")])

    assert str(order.total_amount) == "0.6"


def test_the_total_of_the_largest_order_is_exact() -> None:
    items = [an_item(quantity=1_000_000, price="999999999999.9999")] * 1_000

    assert str(an_order(items=items).total_amount) == "999999999999999900000"


def test_amounts_are_kept_in_their_canonical_spelling() -> None:
    order = an_order(items=[an_item(quantity=2, price="1.2E+3"), an_item(price="0.50")])

    assert [str(item.price) for item in order.items] == ["1200", "0.5"]
    assert str(order.total_amount) == "2400.5"


items = st.builds(
    Item,
    sku=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255),
    quantity=st.integers(1, 1_000_000),
    price=st.integers(1, 10**16).map(lambda ten_thousandths: Decimal(ten_thousandths).scaleb(-4)),
)


@given(st.lists(items, min_size=1, max_size=20))
def test_the_total_is_the_exact_sum_whatever_the_items(chosen: list[Item]) -> None:
    expected = sum(Fraction(item.price) * item.quantity for item in chosen)

    assert Fraction(an_order(items=chosen).total_amount) == expected


@given(
    st.text(),
    st.text(),
    st.lists(st.builds(Item, sku=st.text(), quantity=st.integers(), price=st.decimals())),
)
def test_whatever_is_asked_for_becomes_an_order_or_is_invalid(
    order_id: str, customer_id: str, chosen: list[Item]
) -> None:
    try:
        order = new_order(order_id, customer_id, chosen)
    except InvalidOrder as invalid:
        assert invalid.violations
    else:
        assert order.total_amount > 0


def test_the_same_content_is_the_same_whatever_became_of_the_order() -> None:
    finished = replace(an_order(), status=Status.FAILED, version=7, fail_reason="Too fatty food")

    assert an_order().same_content(finished)


def test_the_spelling_of_a_price_does_not_make_the_content_another() -> None:
    assert an_order(items=[an_item(price="12.50")]).same_content(an_order(items=[an_item(price="12.5")]))


@pytest.mark.parametrize(
    "other",
    [
        an_order(customer_id="c-2"),
        an_order(items=[an_item(sku="mouse")]),
        an_order(items=[an_item(quantity=2)]),
        an_order(items=[an_item(price="1.0001")]),
        an_order(items=[an_item(), an_item()]),
    ],
)
def test_another_customer_or_other_items_are_another_content(other: Order) -> None:
    assert not an_order().same_content(other)


def test_the_order_of_the_items_is_content() -> None:
    first, second = an_item(sku="a"), an_item(sku="b")

    assert not an_order(items=[first, second]).same_content(an_order(items=[second, first]))


def test_orders_of_the_same_content_are_one_in_a_set_whenever_they_were_stored() -> None:
    order = an_order()

    assert {order, order.stored_at(datetime(2026, 11, 24, tzinfo=UTC))} == {an_order()}
    assert {order} != {an_order(customer_id="c-2")}
