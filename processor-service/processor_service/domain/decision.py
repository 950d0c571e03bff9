"""What can be decided about an order."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Decision:
    """Final: the order succeeds, or fails for `fail_reason`.

    What it rests on is kept with it and makes no difference: the number of the rule that applied (from 1) and
    the SKU to which, and the version of the ruleset, or the name of the user's policy.
    """

    fail_reason: str | None = None
    rule: int | None = field(default=None, compare=False, kw_only=True)
    sku: str | None = field(default=None, compare=False, kw_only=True)
    ruleset_version: str | None = field(default=None, compare=False, kw_only=True)

    @property
    def failed(self) -> bool:
        return self.fail_reason is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponement:
    """Nothing could be decided yet; see RetryLater."""

    reason: str
    delay_seconds: float | None = None
    counts: bool = True


Verdict = Decision | Postponement


def approve() -> Decision:
    return Decision()


def reject(reason: str) -> Decision:
    """`reason` is what the customer is told."""
    if not str(reason):
        raise ValueError("a rejection needs a reason")
    return Decision(str(reason))


DELAY_SECONDS_MAX = 30 * 86_400.0


class RetryLater(Exception):
    """Raised by a policy that cannot decide yet.

    The order is tried again after `delay_seconds` (30 days at most), or by the retry schedule when None.
    After the last attempt of the schedule it becomes a dead letter; `counts=False` (something that the policy
    depends on is out of order) makes this no attempt, however often it happens.
    """

    def __init__(self, reason: str, *, delay_seconds: float | None = None, counts: bool = True) -> None:
        if delay_seconds is not None and not 0 < delay_seconds <= DELAY_SECONDS_MAX:
            raise ValueError(f"delay_seconds must be greater than 0 and at most {DELAY_SECONDS_MAX:.0f}")
        super().__init__(reason)
        self.postponement = Postponement(reason=str(reason), delay_seconds=delay_seconds, counts=counts)
