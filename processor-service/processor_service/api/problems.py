"""The one table from errors to problems."""

from service_kit.errors import Unavailable
from service_kit.http.problems import Problem


def problem_of(error: Exception) -> Problem:
    """The answer to a request that raised `error`; raises what it does not know."""
    match error:
        case Unavailable():
            detail = "The database does not answer. Try again."
            return Problem(503, "ServiceUnavailable", detail, retry_after_seconds=2)
        case _:
            raise error


def order_not_found(order_id: str) -> Problem:
    return Problem(404, "OrderNotFound", f"Nothing is known here of an order {order_id!r}.")
