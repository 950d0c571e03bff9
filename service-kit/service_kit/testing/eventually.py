"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_SECONDS = 0.01


@overload
async def eventually(condition: Callable[[], Awaitable[T | None]], *, within_seconds: float = ...) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], *, within_seconds: float = ...) -> T: ...
async def eventually(condition: Callable[[], Any], *, within_seconds: float = 20.0) -> Any:
    """Call `condition`, sync or async, until it returns something truthy, and return that.

    A condition that raises AssertionError is not true yet. Raises AssertionError when `within_seconds` are
    over, with the condition's own as its cause: a deadline for a broken program, never a measurement.
    """
    seen = "the condition was never evaluated"
    cause: AssertionError | None = None
    try:
        async with asyncio.timeout(within_seconds):
            while True:
                try:
                    outcome = await _evaluate(condition)
                except AssertionError as error:
                    seen, cause = str(error) or repr(error), error
                else:
                    if outcome:
                        return outcome
                    seen, cause = f"last seen: {outcome!r}", None
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not true within {within_seconds:g} s; {seen}") from cause


async def _evaluate(condition: Callable[[], Any]) -> Any:
    outcome = condition()
    return await outcome if inspect.isawaitable(outcome) else outcome
