"""What would become of events if they were handled now, as far as that can be told without handling them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Forecast(StrEnum):
    WILL_RUN = "will_run"
    ALREADY_PROCESSED = "already_processed"
    """Its effect, or a newer one, is stored: handling it again changes nothing."""
    WILL_FAIL_AGAIN = "will_fail_again"


@dataclass(frozen=True, slots=True)
class Foreseen:
    forecast: Forecast
    why: str


Foresee = Callable[[Sequence[Any]], Awaitable[Sequence[Foreseen]]]
"""A look at what is stored: for each of a handler's events, in order, what handling it would come to.

Changes nothing. Raises Unavailable; any other exception means the fault of some event among them.
"""


async def foresee_nothing(events: Sequence[Any]) -> Sequence[Foreseen]:
    """For handlers whose outcome nothing stored can tell."""
    return [Foreseen(Forecast.WILL_RUN, "it is handled as if it were new") for _ in events]
