"""The bodies of requests and answers."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from order_service.application.order_timeline import Timeline
from order_service.domain.errors import InvalidOrder, Violation
from order_service.domain.event import OrderEvent
from order_service.domain.order import ITEMS_MAX, Item, Order, OrderSummary, new_order, text_violations
from service_kit.http.inputs import why_unreadable


class ItemBody(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    quantity: int
    price: Any
    """A number; untyped, so that the decoder's `float_hook` hands it over exactly as it was written."""


class OrderBody(msgspec.Struct, forbid_unknown_fields=True):
    order_id: str
    customer_id: str
    items: list[ItemBody]


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None = None


_typed = msgspec.json.Decoder(OrderBody, float_hook=Decimal)
_untyped = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)


def parse_order(raw: bytes) -> Order:
    """The order that a request asks for. Raises InvalidOrder with every violation that can be told."""
    if not raw:
        raise InvalidOrder([Violation((), "is not readable: it is empty")])
    try:
        body = _typed.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidOrder(_all_violations(raw) or [Violation((), str(error))]) from error
    except _UNREADABLE as error:
        raise InvalidOrder([Violation((), why_unreadable(error))]) from error
    violations = [
        Violation(("items", index, "price"), "must be a number")
        for index, item in enumerate(body.items)
        if not _is_number(item.price)
    ]
    if violations:
        raise InvalidOrder(violations)
    items = [Item(sku=item.sku, quantity=item.quantity, price=Decimal(item.price)) for item in body.items]
    return new_order(body.order_id, body.customer_id, items)


def parse_reason(raw: bytes) -> str | None:
    """Why an order is to be cancelled, if that is told. Raises InvalidOrder."""
    if not raw:
        return None
    try:
        reason = msgspec.json.decode(raw, type=CancelBody).reason
    except (*_UNREADABLE, msgspec.ValidationError) as error:
        raise InvalidOrder([Violation((), why_unreadable(error))]) from error
    violations = [] if reason is None else text_violations(("reason",), reason)
    if violations:
        raise InvalidOrder(violations)
    return reason


def encode_order(order: OrderSummary) -> bytes:
    """The order as it is shown everywhere."""
    return _encoder.encode(_shown(order))


def encode_order_with_items(order: Order) -> bytes:
    items = [{"sku": item.sku, "quantity": item.quantity, "price": item.price} for item in order.items]
    return _encoder.encode(_shown(order) | {"items": items})


def encode_page(orders: Sequence[OrderSummary], *, has_more: bool) -> bytes:
    return _encoder.encode({"data": [_shown(order) for order in orders], "has_more": has_more})


def encode_event(event: OrderEvent) -> bytes:
    """The body of a webhook, and what a stream says."""
    return _encoder.encode({"type": event.type, "timestamp": event.at, "data": _shown(event.order)})


def _shown(order: OrderSummary) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "status": order.status,
        "total_amount": order.total_amount,
        "version": order.version,
        "fail_reason": order.fail_reason,
        "cancel_reason": order.cancel_reason,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
    }


def encode_timeline(timeline: Timeline) -> bytes:
    """Times are in UTC (RFC 3339)."""
    return _encoder.encode(
        {
            "order": msgspec.Raw(encode_order(timeline.order)),
            "steps": timeline.steps,
            "problems": timeline.problems,
            "complete": timeline.complete,
        }
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, Decimal)  # not by isinstance, to which a bool is an int


def _all_violations(raw: bytes) -> list[Violation]:
    """Everything that is wrong in form: the typed decoder stops at the first."""
    try:
        document = _untyped.decode(raw)
    except _UNREADABLE as error:
        return [Violation((), why_unreadable(error))]
    violations = _violations(document, OrderBody, ())
    items = document.get("items") if isinstance(document, dict) else None
    if isinstance(items, list):
        for index, item in enumerate(items[:ITEMS_MAX]):
            violations += _violations(item, ItemBody, ("items", index))
    return violations


def _violations(
    value: object, struct: type[msgspec.Struct], location: Sequence[str | int]
) -> list[Violation]:
    if not isinstance(value, dict):
        return [Violation((*location,), "must be an object")]
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    violations = [
        Violation((*location, str(name)), "is not a known field") for name in value if name not in fields
    ]
    for name, type_ in fields.items():
        if name not in value:
            violations.append(Violation((*location, name), "is required"))
        elif problem := _form_problem(value[name], type_):
            violations.append(Violation((*location, name), problem))
    return violations


def _form_problem(value: object, type_: Any) -> str | None:
    if type_ is Any:
        return None if _is_number(value) else "must be a number"
    expected, words = {str: (str, "a string"), int: (int, "an integer")}.get(type_, (list, "an array"))
    matches = isinstance(value, expected) and not isinstance(value, bool)
    return None if matches else f"must be {words}"
