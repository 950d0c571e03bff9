"""Whoever writes events does not run away from whoever publishes them."""

import asyncio
from collections import deque


class BackPressure:
    """Holds commits back while the relay is behind and gets on.

    While it is behind, each of its turns lets one commit go. With commits smaller than the relay's claims
    less comes in than goes out, and the backlog shrinks. A relay that gets nothing done for
    `patience_seconds` holds nobody up: in an outage orders are accepted all the same.
    """

    def __init__(self, *, patience_seconds: float = 3.0) -> None:
        self._patience_seconds = patience_seconds
        self._behind = False
        self._last_turn_at = 0.0
        self._held: deque[asyncio.Future[None]] = deque()

    def turn_ended(self, *, behind: bool) -> None:
        """The relay published what it had claimed; `behind` says that more was there. Or it could not."""
        self._behind = behind
        self._last_turn_at = asyncio.get_running_loop().time()
        self._let_go(1 if behind else len(self._held))

    async def admission(self) -> None:
        """Wait for a turn of the relay if it is behind, but not for one that does not end."""
        if not self._behind:
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._held.append(turn)
        try:
            while not turn.done():
                patience_ends_at = self._last_turn_at + self._patience_seconds
                await asyncio.wait({turn}, timeout=max(0.0, patience_ends_at - loop.time()))
                if loop.time() >= self._last_turn_at + self._patience_seconds:
                    self.turn_ended(behind=False)
        finally:
            turn.cancel()  # who was cancelled takes nobody's turn

    def _let_go(self, count: int) -> None:
        while count and self._held:
            turn = self._held.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1
