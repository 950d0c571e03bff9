"""Reading `order.processed`: tolerant in form, strict in what is stored."""

from pathlib import Path
from typing import cast

import pytest

from order_service.application.ports import OrderResults, ProcessedOrder
from order_service.consumers.order_processed import OrderProcessedHandler
from order_service.domain.order import OrderId, Status
from service_kit.errors import MalformedEvent


def no_results() -> OrderResults:
    """Decoding needs none."""
    return cast("OrderResults", None)


def read(body: str | bytes) -> ProcessedOrder:
    handler = OrderProcessedHandler(no_results(), lambda _: None)
    return handler.decode("order.processed", body.encode() if isinstance(body, str) else body).result()


def event(fields: str) -> str:
    return f'{{"order_id": "o-1", {fields}}}'


def test_a_success_means_done() -> None:
    assert read(event('"status": "success", "fail_reason": null, "version": 2')) == ProcessedOrder(
        key="order.processed:o-1:2", order_id=OrderId("o-1"), status=Status.DONE, fail_reason=None, version=2
    )


def test_a_failure_keeps_its_reason() -> None:
    result = read(event('"status": "failed", "fail_reason": "Too fatty food", "version": 2'))

    assert (result.status, result.fail_reason) == (Status.FAILED, "Too fatty food")


@pytest.mark.parametrize("reason", ['"fail_reason": null,', '"fail_reason": "",', ""])
def test_a_failure_without_a_reason_is_given_one(reason: str) -> None:
    assert read(event(f'{reason} "status": "failed", "version": 2')).fail_reason == "no reason given"


def test_a_success_has_no_reason_even_if_one_is_sent() -> None:
    assert read(event('"status": "success", "fail_reason": "none", "version": 2')).fail_reason is None


@pytest.mark.parametrize("version", ["2", "2.0", "2e0", '"2"'])
def test_a_version_may_be_spelled_as_foreigners_do(version: str) -> None:
    assert read(event(f'"status": "success", "version": {version}')).key == "order.processed:o-1:2"


def test_unknown_fields_are_ignored() -> None:
    fields = '"status": "success", "version": 2, "processed_at": "now", "items": [{"a": [1.5]}]'

    assert read(event(fields)).version == 2


@pytest.mark.parametrize("order_id", ["заказ-🍕", "a/b", "x" * 255, "\x7f"])
def test_an_id_is_taken_as_it_is(order_id: str) -> None:
    assert read(f'{{"order_id": "{order_id}", "status": "success", "version": 2}}').order_id == order_id


@pytest.mark.parametrize(
    "body",
    [
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
        event('"status": "success"'),
        event('"version": 2'),
        '{"status": "success", "version": 2}',
        event('"status": "done", "version": 2'),
        event('"status": 1, "version": 2'),
        event('"status": null, "version": 2'),
        *[
            event(f'"status": "success", "version": {bad}')
            for bad in ("0", "-1", "2.5", "true", "null", '"two"', "1e400")
        ],
        event('"status": "success", "version": 9007199254740993'),
        event('"status": "failed", "version": 2, "fail_reason": 7'),
        event(r'"status": "failed", "version": 2, "fail_reason": "\u0000"'),
        event(r'"status": "failed", "version": 2, "fail_reason": "\ud800"'),
        *[
            f'{{"order_id": {bad}, "status": "success", "version": 2}}'
            for bad in ("1", "null", '""', f'"{"x" * 256}"', r'"\u0000"', r'"\ud800"', "[]")
        ],
        b'{"order_id": "\xff", "status": "success", "version": 2}',
        event('"status": "success", "version": 2') + " trailing",
    ],
    ids=lambda body: repr(body[:70]),
)
def test_poison_is_told_as_such(body: str | bytes) -> None:
    with pytest.raises(MalformedEvent) as raised:
        read(body)

    assert str(raised.value)


def test_every_example_of_the_contract_is_read(contracts_folder: Path) -> None:
    examples = [
        *contracts_folder.glob("examples/sent/order.processed.*"),
        *contracts_folder.glob("examples/accepted/order.processed.*"),
    ]

    assert examples
    for example in examples:
        assert read(example.read_bytes()).order_id


def test_every_example_that_the_contract_refuses_is_poison(contracts_folder: Path) -> None:
    examples = list(contracts_folder.glob("examples/refused/order.processed.*"))

    assert examples
    for example in examples:
        with pytest.raises(MalformedEvent):
            read(example.read_bytes())
