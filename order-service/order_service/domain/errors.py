"""What can be wrong with an order, in the words of the domain."""

from dataclasses import dataclass


class OrderError(Exception):
    """Base of the domain's errors."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that is broken: `location` is the path to the value, such as `("items", 0, "price")`."""

    location: tuple[str | int, ...]
    message: str


class InvalidOrder(OrderError):
    """The order breaks a rule."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(violation.message for violation in violations))
        self.violations = violations
