"""Reading `order.created`: what foreigners write is taken, what cannot be understood is poison."""

from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor_service.application.ports import DecidedOrders, Policy
from processor_service.consumers.order_created import OrderCreated, OrderCreatedHandler
from processor_service.domain.order import Item, Order, OrderId
from service_kit.errors import MalformedEvent


def read(body: str | bytes) -> OrderCreated:
    handler = OrderCreatedHandler(cast("Policy", None), cast("DecidedOrders", None), lambda _: None)
    return handler.decode("order.created", body.encode() if isinstance(body, str) else body)


def event(fields: str) -> str:
    return f'{{"order_id": "o-1", {fields}}}'


def item_of(written: str) -> Item:
    [item] = read(event(f'"items": [{written}]')).order().items
    return item


def test_an_event_of_ours_is_read() -> None:
    created = read(
        event(
            '"customer_id": "c-1", "amount": 24.5, "version": 3, '
            '"items": [{"sku": "laptop", "quantity": 2, "price": 12.25}]'
        )
    )

    assert created.key == "order.created:o-1:3"
    assert created.subject == "o-1"
    assert created.order() == Order(
        order_id=OrderId("o-1"),
        customer_id="c-1",
        items=(Item(sku="laptop", quantity=2, price=Decimal("12.25")),),
        amount=Decimal("24.5"),
        version=3,
    )


def test_items_may_be_skus_alone_and_everything_else_may_be_missing() -> None:
    created = read(event('"items": ["laptop", "mouse"]'))

    assert created.key == "order.created:o-1:1"
    assert created.order() == Order(
        order_id=OrderId("o-1"),
        customer_id=None,
        items=(Item(sku="laptop"), Item(sku="mouse")),
        amount=None,
        version=1,
    )


def test_items_may_be_of_both_kinds() -> None:
    items = read(event('"items": ["laptop", {"sku": "mouse", "quantity": 1}]')).order().items

    assert items == (Item(sku="laptop"), Item(sku="mouse", quantity=1))


@pytest.mark.parametrize(
    ("written", "item"),
    [
        (
            '{"sku": "a", "quantity": 3.0, "price": 1200.0}',
            Item(sku="a", quantity=3, price=Decimal("1200.0")),
        ),
        ('{"sku": "a", "quantity": "3", "price": "0.10"}', Item(sku="a", quantity=3, price=Decimal("0.10"))),
        ('{"sku": "a", "quantity": null, "price": null}', Item(sku="a")),
        ('{"sku": "a", "name": "A", "tags": [1.5, {}]}', Item(sku="a")),
        ('{"sku": "a", "price": 0.1}', Item(sku="a", price=Decimal("0.1"))),
        ('{"sku": "a", "price": 1e2}', Item(sku="a", price=Decimal("100"))),
        ('{"sku": ""}', Item(sku="")),
    ],
)
def test_an_item_may_be_spelled_as_foreigners_do(written: str, item: Item) -> None:
    assert item_of(written) == item


@pytest.mark.parametrize(
    "amount", ["0.1", "1200.0", "123456789012345678901234567890.123456789", "1e400", "-5", "0", '"12.50"']
)
def test_an_amount_is_read_exactly(amount: str) -> None:
    assert str(read(event(f'"items": ["a"], "amount": {amount}')).amount) == str(Decimal(amount.strip('"')))


@pytest.mark.parametrize(
    ("version", "key"), [("1", "1"), ("7.0", "7"), ('"7"', "7"), ("9007199254740992", "9007199254740992")]
)
def test_a_version_may_be_spelled_as_foreigners_do(version: str, key: str) -> None:
    assert read(event(f'"items": ["a"], "version": {version}')).key == f"order.created:o-1:{key}"


def test_unknown_fields_are_ignored() -> None:
    assert read(event('"items": ["a"], "source": {"app": ["x", 1.5]}, "created_at": "now"')).order_id == "o-1"


@pytest.mark.parametrize("order_id", ["заказ-🍕", "a/b", "x" * 255, "я" * 255, "\x7f", " "])
def test_an_id_is_taken_as_it_is(order_id: str) -> None:
    assert read(f'{{"order_id": "{order_id}", "items": ["a"]}}').order_id == order_id


POISON: list[str | bytes] = [
    b"",
    b"not JSON",
    b"\xff\xfe",
    b"\x00" * 8,
    b"null",
    b"1",
    b'"o-1"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{}",
    '{"items": ["a"]}',
    '{"order_id": "o-1"}',
    *[
        f'{{"order_id": {bad}, "items": ["a"]}}'
        for bad in ("1", "null", '""', r'"\u0000"', r'"\ud800"', "[]", "true")
    ],
    f'{{"order_id": "{"x" * 256}", "items": ["a"]}}',
    b'{"order_id": "\xff", "items": ["a"]}',
    *[
        event(f'"items": {bad}')
        for bad in ("null", '"laptop"', "{}", "1", "[null]", "[1]", '[["a"]]', "[{}]")
    ],
    *[event(f'"items": [{{"sku": {bad}}}]') for bad in ("null", "1", "[]", r'"\ud800"')],
    *[
        event(f'"items": [{{"sku": "a", "quantity": {bad}}}]')
        for bad in ("1.5", "true", '"many"', "[]", "1e400")
    ],
    *[
        event(f'"items": [{{"sku": "a", "price": {bad}}}]')
        for bad in ("true", '"free"', "[]", "NaN", "Infinity")
    ],
    *[
        event(f'"items": ["a"], "amount": {bad}')
        for bad in ("true", '"much"', "{}", "NaN", "1e99999999999999999999")
    ],
    *[
        event(f'"items": ["a"], "version": {bad}')
        for bad in ("0", "-1", "1.5", "true", '"one"', "1e400", "null")
    ],
    event('"items": ["a"], "version": 9007199254740993'),
    event('"items": ["a"], "customer_id": 7'),
    event('"items": ["a"]') + " trailing",
]


@pytest.mark.parametrize("body", POISON, ids=lambda body: repr(body[:70]))
def test_poison_is_told_as_such(body: str | bytes) -> None:
    with pytest.raises(MalformedEvent) as raised:
        read(body)

    assert str(raised.value)


@given(st.binary())
def test_whatever_bytes_come_they_are_an_event_or_poison(body: bytes) -> None:
    try:
        read(body)
    except MalformedEvent:
        return


def test_every_example_of_the_contract_is_read(contracts_folder: Path) -> None:
    examples = [
        path
        for kind in ("sent", "accepted")
        for path in contracts_folder.glob(f"examples/{kind}/order.created.*")
    ]

    assert len(examples) > 1
    for example in examples:
        assert read(example.read_bytes()).order().order_id


def test_every_example_that_the_contract_refuses_is_poison(contracts_folder: Path) -> None:
    examples = list(contracts_folder.glob("examples/refused/order.created.*"))

    assert examples
    for example in examples:
        with pytest.raises(MalformedEvent):
            read(example.read_bytes())
