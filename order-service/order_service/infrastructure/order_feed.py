"""The one reader of the log in this process, and the streams that it fills."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import ClassVar

from order_service.application.order_events import End, EventFilter, EventStream, Told
from order_service.domain.event import OrderEvent
from order_service.infrastructure.order_log import PostgresOrderLog
from service_kit.lifecycle import BackgroundService, Wakeup

STREAMS_MAX = 10_000


class OrderFeed(BackgroundService):
    """Implements OrderEvents. However many streams there are, the log is read once.

    Looks every `poll_seconds` while there are streams or it is `listened_to`, every `idle_seconds` otherwise,
    and then tells `on_advanced` how far the log is complete. `encode` makes the bytes of an event, once for
    all.
    """

    name: ClassVar[str] = "order_feed"

    def __init__(
        self,
        log: PostgresOrderLog,
        encode: Callable[[OrderEvent], bytes],
        *,
        on_advanced: Callable[[int], None] = lambda _: None,
        listened_to: Callable[[], bool] = lambda: False,
        poll_seconds: float = 0.1,
        idle_seconds: float = 1.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._log = log
        self._encode = encode
        self._on_advanced = on_advanced
        self._listened_to = listened_to
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._position = 0
        self._streams: set[EventStream] = set()
        # Streams by what they want, so that an event costs nothing to those who do not want it.
        self._of_orders: defaultdict[str, set[EventStream]] = defaultdict(set)
        self._of_customers: defaultdict[str, set[EventStream]] = defaultdict(set)
        self._of_all: set[EventStream] = set()
        self._somebody_listens = Wakeup()
        self._started = asyncio.Event()
        self._ended = False

    @property
    def position(self) -> int:
        return self._position

    @property
    def streams(self) -> int:
        return len(self._streams)

    @property
    def full(self) -> bool:
        return self.streams >= STREAMS_MAX

    async def started(self) -> None:
        await self._started.wait()

    async def kept(self) -> tuple[int, int]:
        return await self._log.kept()

    async def read(self, after: int, up_to: int) -> tuple[Sequence[OrderEvent], int]:
        page = await self._log.read(after, up_to)
        return page.events, page.position

    def tell(self, event: OrderEvent) -> Told:
        return Told(event, self._encode(event))

    @contextmanager
    def stream(self, wanted: EventFilter) -> Iterator[EventStream]:
        stream = EventStream(wanted)
        if self._ended:
            stream.end(End.STOPPING)
        if not self._streams:
            self._somebody_listens.notify()
        self._streams.add(stream)
        index, key = self._place(wanted)
        place = self._of_all if index is None else index[key]
        place.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            place.discard(stream)
            if index is not None and not place:
                index.pop(key, None)

    def end(self) -> None:
        """End what would never end by itself."""
        self._ended = True
        self._started.set()
        for stream in self._streams:
            stream.end(End.STOPPING)

    async def run_once(self) -> None:
        if not self._started.is_set():
            _, self._position = await self._log.kept()
            self._started.set()
        position, more = await self._log.advance()
        while self._streams and self._position < position:
            page = await self._log.read(self._position, position)
            self._tell(page.events)
            self._position = page.position
        self._position = position
        self._on_advanced(position)
        if not more:
            listened_to = self._streams or self._listened_to()
            wait_seconds = self._poll_seconds if listened_to else self._idle_seconds
            await self.until_stopped(self._somebody_listens.wait(wait_seconds))

    def _tell(self, events: Iterable[OrderEvent]) -> None:
        for event in events:
            listeners = [
                stream
                for place in (
                    self._of_orders.get(event.order.order_id, ()),
                    self._of_customers.get(event.order.customer_id, ()),
                    self._of_all,
                )
                for stream in place
                if stream.wanted.takes(event)
            ]
            if listeners:
                told = self.tell(event)
                for stream in listeners:
                    stream.put(told)

    def _place(self, wanted: EventFilter) -> tuple[defaultdict[str, set[EventStream]] | None, str]:
        if wanted.order_id is not None:
            return self._of_orders, wanted.order_id
        if wanted.customer_id is not None:
            return self._of_customers, wanted.customer_id
        return None, ""
