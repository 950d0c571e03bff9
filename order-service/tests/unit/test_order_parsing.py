"""From the bytes of a request to an order."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from order_service.api.schemas import encode_order, parse_order
from order_service.domain.errors import InvalidOrder
from order_service.domain.order import Order


def body(
    order_id: str = '"o-1"',
    customer_id: str = '"c-1"',
    quantity: str = "1",
    price: str = "1",
    extra: str = "",
) -> bytes:
    item = f'{{"sku": "laptop", "quantity": {quantity}, "price": {price}}}'
    return f'{{"order_id": {order_id}, "customer_id": {customer_id}, "items": [{item}]{extra}}}'.encode()


def errors_of(raw: bytes) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(InvalidOrder) as raised:
        parse_order(raw)
    return [(violation.location, violation.message) for violation in raised.value.violations]


def price_of(order: Order) -> str:
    return str(order.items[0].price)


def test_an_order_is_read() -> None:
    order = parse_order(body(quantity="2", price="1200.50"))

    assert (order.order_id, order.customer_id, order.items[0].sku, order.items[0].quantity) == (
        "o-1",
        "c-1",
        "laptop",
        2,
    )
    assert (price_of(order), str(order.total_amount)) == ("1200.5", "2401")


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("0.1", "0.1"),
        ("1200.0", "1200"),
        ("1200", "1200"),
        ("1.2e3", "1200"),
        ("12.5E-1", "1.25"),
        ("0.0001", "0.0001"),
        ("1e-4", "0.0001"),
        ("999999999999.9999", "999999999999.9999"),
        ("1e12", "1000000000000"),
        ("1000000000000", "1000000000000"),
    ],
)
def test_a_price_is_read_exactly_as_it_was_written(written: str, price: str) -> None:
    assert price_of(parse_order(body(price=written))) == price


@pytest.mark.parametrize("written", ['"1"', "true", "false", "null", "[1]", '{"a": 1}'])
def test_a_price_that_is_no_number_is_refused(written: str) -> None:
    assert errors_of(body(price=written)) == [(("items", 0, "price"), "must be a number")]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0", "must be greater than 0"),
        ("-0.0", "must be greater than 0"),
        ("-1", "must be greater than 0"),
        ("1e400", "must be at most 10^12"),
        ("1" + "0" * 400, "must be at most 10^12"),
        ("1e-400", "must have at most 4 decimal places"),
        ("1.00001", "must have at most 4 decimal places"),
    ],
)
def test_a_price_outside_the_rules_is_refused_where_it_stands(written: str, message: str) -> None:
    assert errors_of(body(price=written)) == [(("items", 0, "price"), message)]


@pytest.mark.parametrize("written", ["1e99999999999999999999", "1e-99999999999999999999", "1" + "0" * 5_000])
def test_a_number_beyond_all_limits_is_refused_in_words(written: str) -> None:
    [(location, message)] = errors_of(body(price=written))

    assert location == ()
    assert "out of range" in message
    assert "<class" not in message


@pytest.mark.parametrize("written", ['"1"', "1.0", "1e0", "1.5", "true", "null", "[]"])
def test_a_quantity_that_is_no_integer_is_refused(written: str) -> None:
    assert errors_of(body(quantity=written)) == [(("items", 0, "quantity"), "must be an integer")]


@pytest.mark.parametrize("written", ["0", "-1", "1000001", "1" + "0" * 400, "-1" + "0" * 400])
def test_a_quantity_outside_the_rules_is_refused(written: str) -> None:
    assert errors_of(body(quantity=written)) == [(("items", 0, "quantity"), "must be from 1 to 1000000")]


@pytest.mark.parametrize("written", ["1", "null", "true", "[]", "{}"])
def test_an_id_that_is_no_string_is_refused(written: str) -> None:
    assert errors_of(body(order_id=written)) == [(("order_id",), "must be a string")]
    assert errors_of(body(customer_id=written)) == [(("customer_id",), "must be a string")]


@pytest.mark.parametrize("written", [r'"\u0000"', r'"\u001f"', '"\x7f"', r'"\u0085"', '"\x9f"'])
def test_a_control_character_is_refused_escaped_or_not(written: str) -> None:
    assert errors_of(body(order_id=written)) == [(("order_id",), "must not contain control characters")]


def test_an_escaped_surrogate_pair_is_one_character() -> None:
    assert parse_order(body(order_id=r'"\ud83c\udf55"')).order_id == "🍕"


def test_everything_that_is_wrong_in_form_is_told_at_once() -> None:
    raw = b"""{"order_id": 1, "note": "x", "items": [
        {"sku": "laptop", "quantity": 1, "price": 1},
        {"sku": null, "quantity": "1", "price": "1", "color": "red"},
        7
    ]}"""

    assert errors_of(raw) == [
        (("note",), "is not a known field"),
        (("order_id",), "must be a string"),
        (("customer_id",), "is required"),
        (("items", 1, "color"), "is not a known field"),
        (("items", 1, "sku"), "must be a string"),
        (("items", 1, "quantity"), "must be an integer"),
        (("items", 1, "price"), "must be a number"),
        (("items", 2), "must be an object"),
    ]


def test_missing_fields_are_told() -> None:
    required = "is required"

    assert errors_of(b"{}") == [
        (("order_id",), required),
        (("customer_id",), required),
        (("items",), required),
    ]
    assert errors_of(b'{"order_id": "o", "customer_id": "c", "items": [{}]}') == [
        (("items", 0, "sku"), required),
        (("items", 0, "quantity"), required),
        (("items", 0, "price"), required),
    ]


def test_an_unknown_field_is_refused_whatever_its_value() -> None:
    assert errors_of(body(extra=', "status": "done"')) == [(("status",), "is not a known field")]
    assert errors_of(body(extra=', "": null')) == [(("",), "is not a known field")]


@pytest.mark.parametrize("items", ["null", "{}", '"laptop"', "1"])
def test_items_that_are_no_array_are_refused(items: str) -> None:
    raw = f'{{"order_id": "o", "customer_id": "c", "items": {items}}}'.encode()

    assert errors_of(raw) == [(("items",), "must be an array")]


def test_an_order_without_items_is_refused() -> None:
    raw = b'{"order_id": "o", "customer_id": "c", "items": []}'

    assert errors_of(raw) == [(("items",), "must have 1 to 1000 items")]


@pytest.mark.parametrize("raw", [b"null", b"[]", b'"x"', b"1", b"1.5", b"true"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert errors_of(raw) == [((), "must be an object")]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"{'order_id': 1}",
        b"\x00",
        b"\xef\xbb\xbf{}",
        b"{} {}",
        '{"order_id": "o"}'.encode("utf-16"),
        body(price="NaN"),
        body(price="Infinity"),
        body(price="-Infinity"),
        body(price="01"),
        body(price="+1"),
        body(price=".5"),
        body(price="1."),
        body(price="0x10"),
        body(order_id='"\t"'),
        body(order_id=r'"\ud800"'),
        body(order_id=r'"\udc00\ud83c"'),
        rb'{"\ud800": 1}',
        body(order_id='"\xff"').replace(b"\xc3\xbf", b"\xff"),
        b'{"order_id": "\xed\xa0\x80"}',
        b"[" * 100_000,
        b'{"items":' * 100_000,
        b'{"items":[' * 100_000 + b"]}" * 100_000,
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    [(location, message)] = errors_of(raw)

    assert location == ()
    assert message.startswith("is not readable: ")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is empty"),
        (b'{"order_id": "\xff"}', "it is not UTF-8"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
    ids=["empty", "latin", "deep"],
)
def test_why_it_is_no_json_is_told_in_plain_words(raw: bytes, why: str) -> None:
    assert errors_of(raw) == [((), f"is not readable: {why}")]


def test_of_duplicate_keys_the_last_counts() -> None:
    raw = b"""{"order_id": "first", "order_id": "last", "customer_id": "c",
               "items": [{"sku": "s", "quantity": 1, "price": 1, "price": 2}]}"""
    order = parse_order(raw)

    assert (order.order_id, str(order.total_amount)) == ("last", "2")


def test_of_too_many_items_only_the_allowed_number_is_looked_at() -> None:
    raw = b'{"order_id": "o", "customer_id": "c", "items": [' + b"0," * 500_000 + b"0]}"

    assert errors_of(raw) == [(("items", index), "must be an object") for index in range(1_000)]


def test_a_fault_beyond_the_allowed_number_of_items_alone_is_told_too() -> None:
    good = b'{"sku": "s", "quantity": 1, "price": 1},'
    raw = b'{"order_id": "o", "customer_id": "c", "items": [' + good * 1_000 + b"0]}"

    [(_, message)] = errors_of(raw)

    assert "items" in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def mostly(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return valid | valid | valid | json_values


items = st.fixed_dictionaries(
    {
        "sku": mostly(st.text()),
        "quantity": mostly(st.integers()),
        "price": mostly(st.integers() | st.floats()),
    }
)
documents = st.fixed_dictionaries(
    {
        "order_id": mostly(st.text()),
        "customer_id": mostly(st.text()),
        "items": mostly(st.lists(mostly(items))),
    }
)


@given(st.binary() | documents.map(lambda document: json.dumps(document).encode()))
@example(
    b'{"order_id":"o","customer_id":"c","items":[{"sku":"s","quantity":1,"price":1e99999999999999999999}]}'
)
def test_whatever_is_sent_is_an_order_or_is_invalid(raw: bytes) -> None:
    try:
        order = parse_order(raw)
    except InvalidOrder as invalid:
        assert invalid.violations
        assert all(violation.message for violation in invalid.violations)
    else:
        assert order.total_amount > 0


def test_an_order_is_written_with_exact_numbers() -> None:
    written = encode_order(parse_order(body(price="999999999999.9999")))

    assert written == (
        b'{"order_id":"o-1","customer_id":"c-1","status":"pending","total_amount":999999999999.9999,'
        b'"version":1,"fail_reason":null,"cancel_reason":null,"created_at":null,"updated_at":null}'
    )


@given(st.integers(1, 10**16))
def test_an_amount_survives_reading_and_writing(ten_thousandths: int) -> None:
    price = Decimal(ten_thousandths).scaleb(-4)

    written = encode_order(parse_order(body(price=f"{price:f}")))

    assert msgspec.json.decode(written, type=dict[str, Any])  # JSON it is
    assert Decimal(json.loads(written, parse_float=str, parse_int=str)["total_amount"]) == price
