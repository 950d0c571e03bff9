import pytest

from service_kit.testing.eventually import eventually


async def test_it_returns_what_the_condition_finally_returned() -> None:
    outcomes = iter([None, "", "there"])

    assert await eventually(lambda: next(outcomes)) == "there"


async def test_a_condition_may_be_async() -> None:
    outcomes = iter([0, 0, 7])

    async def condition() -> int:
        return next(outcomes)

    assert await eventually(condition) == 7


async def test_an_assertion_error_means_not_yet() -> None:
    attempts: list[int] = []

    def condition() -> bool:
        attempts.append(1)
        assert len(attempts) > 2
        return True

    assert await eventually(condition)


async def test_after_the_deadline_it_says_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"not true within 0\.05 s; last seen: \[\]"):
        await eventually(lambda: [], within_seconds=0.05)


async def test_after_the_deadline_a_failed_assertion_is_the_cause() -> None:
    def condition() -> bool:
        raise AssertionError("two rows are left")

    with pytest.raises(AssertionError, match="two rows are left") as caught:
        await eventually(condition, within_seconds=0.05)

    assert isinstance(caught.value.__cause__, AssertionError)


async def test_any_other_error_of_the_condition_is_raised_at_once() -> None:
    def condition() -> bool:
        raise LookupError("no such order")

    with pytest.raises(LookupError, match="no such order"):
        await eventually(condition)
