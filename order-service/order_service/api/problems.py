"""The one table from errors to problems."""

from collections.abc import Sequence

from order_service.domain.errors import InvalidOrder, Violation
from order_service.domain.order import OrderSummary
from service_kit.errors import Unavailable
from service_kit.group_commit import Overloaded
from service_kit.http.problems import FieldError, Problem

ERRORS_MAX = 1_000
"""Most faults of one order that are told: a body of 1 MiB can hold a hundred times as many."""


def problem_of(error: BaseException) -> Problem:
    """The answer to a request that raised `error`; raises what it does not know."""
    match error:
        case InvalidOrder():
            return invalid("The order is not valid.", error.violations)
        case Overloaded():
            detail = "Too many requests are waiting for the database. Nothing was done; send it again."
            return Problem(503, "Overloaded", detail, retry_after_seconds=1)
        case Unavailable():
            detail = "The database does not answer. Try again: an order that is sent twice is stored once."
            return Problem(503, "ServiceUnavailable", detail, retry_after_seconds=2)
        case _:
            raise error


def invalid(detail: str, violations: Sequence[Violation]) -> Problem:
    told = violations[:ERRORS_MAX]
    errors = [FieldError(loc=("body", *item.location), msg=item.message) for item in told]
    return Problem(400, "ValidationError", detail, errors=errors)


def order_not_found(order_id: str) -> Problem:
    return Problem(404, "OrderNotFound", f"There is no order {order_id!r}.")


def customer_not_allowed(customer_id: str) -> Problem:
    detail = f"This key may not send orders of the customer {customer_id!r}."
    return Problem(403, "CustomerNotAllowed", detail)


def order_conflict(order_id: str) -> Problem:
    return Problem(
        409, "OrderConflict", f"The order {order_id!r} exists with other content; it was left untouched."
    )


def order_not_cancellable(order: OrderSummary) -> Problem:
    detail = f"The order {order.order_id!r} is {order.status}: only a pending order can be cancelled."
    members = {"order_status": order.status, "order_version": order.version}
    return Problem(409, "OrderNotCancellable", detail, members=members)
