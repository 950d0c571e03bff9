"""Which published message each confirm, refusal and return of the broker speaks of. Pure bookkeeping."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from service_kit.broker import PublishOutcome
from service_kit.errors import ServiceKitError
from service_kit.message import Message
from service_kit.rabbitmq.frame_parser import Confirmed, Returned


@dataclass(slots=True, eq=False)
class Batch:
    """Messages sent together; `settled` ends when the broker has said its word on each."""

    first_tag: int
    messages: Sequence[Message]
    settled: asyncio.Future[None]
    outcomes: list[PublishOutcome | None]
    unsettled: int
    _settled_below: int = 0
    _returned: set[int] = field(default_factory=set)
    _return_searched_from: int = 0

    @property
    def last_tag(self) -> int:
        return self.first_tag + len(self.messages) - 1

    def confirmed(self, confirmed: Confirmed) -> None:
        outcome = PublishOutcome.CONFIRMED if confirmed.accepted else PublishOutcome.REFUSED
        position = min(confirmed.tag, self.last_tag) - self.first_tag
        first = self._settled_below if confirmed.multiple else position
        for settled in range(first, position + 1):
            self._settle(settled, outcome)
        if confirmed.multiple:
            self._settled_below = max(self._settled_below, position + 1)
        if not self.unsettled and not self.settled.done():
            self.settled.set_result(None)

    def returned(self, returned: Returned) -> bool:
        """Note a return for the first message it can mean; False when it means none of this batch."""
        # Returns come in the order of publishing, so that the search goes on where it last ended.
        count, start = len(self.messages), self._return_searched_from
        for position in chain(range(start, count), range(start)):
            message = self.messages[position]
            if (
                message.message_id == returned.message_id
                and message.routing_key == returned.routing_key
                and self.outcomes[position] is None
                and position not in self._returned
            ):
                self._returned.add(position)
                self._return_searched_from = position + 1
                return True
        return False

    def _settle(self, position: int, outcome: PublishOutcome) -> None:
        if self.outcomes[position] is None:
            unroutable = position in self._returned
            self.outcomes[position] = PublishOutcome.UNROUTABLE if unroutable else outcome
            self.unsettled -= 1


class Confirms:
    """The batches of one channel that are not settled yet, oldest first."""

    def __init__(self) -> None:
        self._next_tag = 1
        self._batches: deque[Batch] = deque()
        self.count = 0
        """How many confirms came, to tell progress from silence."""

    def expect(self, messages: Sequence[Message]) -> Batch:
        """Account for `messages` as the next that are published."""
        settled = asyncio.get_running_loop().create_future()
        batch = Batch(self._next_tag, messages, settled, [None] * len(messages), len(messages))
        self._next_tag += len(messages)
        self._batches.append(batch)
        return batch

    def confirmed(self, confirmed: Confirmed) -> None:
        self.count += 1
        for batch in self._batches:
            if batch.first_tag > confirmed.tag:
                break
            if confirmed.multiple or confirmed.tag <= batch.last_tag:
                batch.confirmed(confirmed)
        while self._batches and not self._batches[0].unsettled:
            self._batches.popleft()

    def returned(self, returned: Returned) -> None:
        any(batch.returned(returned) for batch in self._batches)

    def pending(self) -> list[Batch]:
        return list(self._batches)

    def fail(self, error: ServiceKitError) -> None:
        """End every unsettled batch with (a copy of) `error`."""
        for batch in self._batches:
            if not batch.settled.done():
                batch.settled.set_exception(type(error)(str(error)))
                # Its publisher may be cancelled before it looks.
                batch.settled.exception()
        self._batches.clear()
