"""The one table from errors to problems."""

from processor_service.application.ports import RulesNotReloaded
from processor_service.application.read_ruleset import Fault, InvalidRules
from service_kit.errors import Unavailable
from service_kit.http.problems import FieldError, Problem


def problem_of(error: Exception) -> Problem:
    """The answer to a request that raised `error`; raises what it does not know."""
    match error:
        case InvalidRules():
            errors = [FieldError(loc=_location(fault), msg=fault.message) for fault in error.faults]
            return Problem(400, "InvalidRuleset", "This is no ruleset.", errors=errors)
        case RulesNotReloaded():
            return Problem(409, "RulesNotReloaded", f"The rules stay as they are: {error}.")
        case Unavailable():
            detail = "The database does not answer. Try again."
            return Problem(503, "ServiceUnavailable", detail, retry_after_seconds=2)
        case _:
            raise error


def order_not_found(order_id: str) -> Problem:
    return Problem(404, "OrderNotFound", f"Nothing is known here of an order {order_id!r}.")


def _location(fault: Fault) -> tuple[str | int, ...]:
    if fault.rule is not None:
        return ("rules", fault.rule)
    return () if fault.line is None else ("line", fault.line)
