"""Decisions, and putting one off."""

import pytest

from processor_service.domain.decision import Decision, Postponement
from processor_service.policy import RetryLater, approve, reject


def test_an_approval_has_no_reason() -> None:
    assert (approve().failed, approve().fail_reason) == (False, None)


def test_a_rejection_has_its_reason() -> None:
    assert reject("Too expensive") == Decision("Too expensive")
    assert reject("Too expensive").failed


def test_a_rejection_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        reject("")


def test_to_retry_later_is_an_attempt_by_default_and_left_to_the_schedule() -> None:
    assert RetryLater("the bank sleeps").postponement == Postponement(
        reason="the bank sleeps", delay_seconds=None, counts=True
    )


def test_to_retry_later_may_name_a_delay_and_count_as_no_attempt() -> None:
    later = RetryLater("the bank is away", delay_seconds=0.5, counts=False)

    assert later.postponement == Postponement(reason="the bank is away", delay_seconds=0.5, counts=False)


@pytest.mark.parametrize("delay_seconds", [0, -1, 30 * 86_400 + 1, 1e12, float("inf"), float("nan")])
def test_a_delay_of_no_time_or_more_than_thirty_days_is_refused(delay_seconds: float) -> None:
    with pytest.raises(ValueError, match="delay_seconds"):
        RetryLater("later", delay_seconds=delay_seconds)


@pytest.mark.parametrize("delay_seconds", [0.001, 30 * 86_400])
def test_a_delay_of_up_to_thirty_days_is_taken(delay_seconds: float) -> None:
    assert RetryLater("later", delay_seconds=delay_seconds).postponement.delay_seconds == delay_seconds


def test_the_reason_may_be_the_error_that_was_caught() -> None:
    assert RetryLater(OSError("no route")).postponement.reason == "no route"  # type: ignore[arg-type]
    assert reject(OSError("no route")).fail_reason == "no route"  # type: ignore[arg-type]
