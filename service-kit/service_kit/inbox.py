"""The inbox: an event key is accepted once, in the transaction of the effect that it stands for."""

from collections.abc import Collection
from typing import Protocol


class Inbox(Protocol):
    async def accept(self, keys: Collection[str]) -> set[str]:
        """Store `keys` with the running transaction; return those that were not there before.

        Only handled events may be accepted: a key stored for an event that failed would turn its replay
        into a silent no-op.
        """
        ...
