"""An event loop whose time jumps to the next timer, so that an hour of backoff takes no time at all.

For code that waits for nothing outside of its own process. In the `conftest.py` of the tests that want it:

    from service_kit.testing.virtual_time import pytest_asyncio_loop_factories, virtual_time
"""

import asyncio
import selectors
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

_BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0. When every task waits and no timer is set it fails, instead of hanging for ever."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._seconds

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise RuntimeError("every task waits, and no timer is set: nothing can ever happen")
        self._seconds += max(0.0, seconds)


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, its time jumps instead."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        self._jump(timeout)
        return []


def loop_clock() -> datetime:
    """The running loop's time as a moment: what the fakes take for the database's clock."""
    return _BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass(slots=True)
class VirtualTime:
    """The time of the loop that the test runs in, from 0 on."""

    loop: asyncio.AbstractEventLoop

    @property
    def seconds(self) -> float:
        return self.loop.time()

    async def advance(self, seconds: float) -> None:
        """Let everything happen that is due within `seconds`, in its order."""
        await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        # A timer of no length jumps only over an idle loop, and so after all that is ready now.
        await asyncio.sleep(1e-6)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual time": VirtualTimeLoop}


@pytest.fixture
async def virtual_time() -> VirtualTime:
    return VirtualTime(asyncio.get_running_loop())


__all__: Sequence[str] = (
    "VirtualTime",
    "VirtualTimeLoop",
    "loop_clock",
    "pytest_asyncio_loop_factories",
    "virtual_time",
)
