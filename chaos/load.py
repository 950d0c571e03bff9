"""Orders as clients send them: new, again, with other content, and cancelled; each until it is answered."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec

from acceptance.http_client import Answer as HttpAnswer
from acceptance.http_client import HttpConnection
from chaos.answers import Answer

_REQUEST_SECONDS_MAX = 10.0
_PAUSE_SECONDS = 0.1
_RECENT = 300
_LAST_SECONDS = 60.0
# Of a hundred turns: the same order again, the same id with other content, a look, twins sent at once, twins
# of other content sent at once, and an order that two clients cancel at once. The rest are new orders.
_TURNS = {"repeat": 10, "conflict": 5, "look": 5, "twins": 8, "rivals": 4, "cancel": 5}
_CANCEL_SECONDS_MAX = 0.05
_SKUS = ("laptop", "mouse", "desk", "potato", "teapot", "lamp", "chair", "cable")


class Load:
    """Posts to `urls` in turn and, when one does not answer, to the next; about `per_second` turns.

    `urls` may be changed while it runs. `unserved` counts requests that none of them answered at first, each
    asked once.
    """

    def __init__(self, urls: Sequence[str], *, per_second: float, seed: int) -> None:
        self.answers: list[Answer] = []
        self.refused: Counter[int] = Counter()
        self.broken = 0
        self.unserved = 0
        self.stopped_at = 0.0
        self.urls = list(urls)
        self._workers = 16
        self._pause_seconds = self._workers / per_second
        self._random = Random(seed)
        self._sent: list[tuple[str, str]] = []
        self._stopping = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Until stopped; every order that was begun is then answered. May be run again."""
        self._stopping.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    def stop(self) -> None:
        """Begin no more orders; those under way are given a minute."""
        self.stopped_at = self._clock()
        self._stopping.set()

    @property
    def over(self) -> bool:
        return self._stopping.is_set() and self._clock() > self.stopped_at + _LAST_SECONDS

    @property
    def accepted(self) -> int:
        return len({answer.order_id for answer in self.answers if answer.accepted})

    async def _work(self) -> None:
        clients = [Client(self, first=0), Client(self, first=1)]
        await asyncio.sleep(self._random.uniform(0, self._pause_seconds))
        try:
            while not self._stopping.is_set():
                begun = self._clock()
                await self._turn(*clients)
                pause = self._pause_seconds * self._random.uniform(0.5, 1.5) - (self._clock() - begun)
                await asyncio.sleep(max(0.0, pause))
        finally:
            for client in clients:
                client.close()

    async def _turn(self, one: "Client", other: "Client") -> None:
        recent = self._sent[-_RECENT:]
        turn = self._random.choices([*_TURNS, "new"], [*_TURNS.values(), 100 - sum(_TURNS.values())])[0]
        if turn in ("repeat", "conflict", "look") and recent:
            order_id, customer = self._random.choice(recent)
            if turn == "look":
                await one.get(order_id)
            else:
                await one.post(order_id, customer if turn == "repeat" else f"other-than-{customer}")
            return
        order_id, customer = self.new_order()
        if turn == "twins":
            await asyncio.gather(one.post(order_id, customer), other.post(order_id, customer))
        elif turn == "rivals":
            await asyncio.gather(one.post(order_id, customer), other.post(order_id, f"rival-of-{customer}"))
        elif turn == "cancel":
            await one.post(order_id, customer)
            await asyncio.sleep(self._random.uniform(0, _CANCEL_SECONDS_MAX))  # about when it is decided
            await asyncio.gather(one.cancel(order_id), other.cancel(order_id))
        else:
            await one.post(order_id, customer)

    def new_order(self) -> tuple[str, str]:
        # Behind a random word, so that orders are neither stored nor locked by their age.
        order = (
            f"{self._random.getrandbits(32):08x}-{len(self._sent)}",
            f"customer-{self._random.randrange(1000)}",
        )
        self._sent.append(order)
        return order


def order_body(order_id: str, customer: str) -> bytes:
    """Content that follows from id and customer alone."""
    random = Random(f"{order_id} {customer}")
    items = [
        {
            "sku": random.choices(_SKUS, [9, 9, 9, 1, 1, 9, 9, 9])[0],
            "quantity": random.randint(1, 9),
            "price": 12.5,
        }
        for _ in range(random.randint(1, 3))
    ]
    return msgspec.json.encode({"order_id": order_id, "customer_id": customer, "items": items})


class Client:
    """A connection to each of `urls`, used in turn; what does not answer is asked of the next one."""

    def __init__(self, load: Load, *, first: int, urls: Sequence[str] | None = None) -> None:
        self._load = load
        self._turn = first
        self._urls = load.urls if urls is None else urls
        self._connections: dict[str, HttpConnection] = {}

    async def post(self, order_id: str, customer: str) -> Answer | None:
        body = order_body(order_id, customer)
        return await self._until_answered("POST", "/orders", order_id, body, content=customer)

    async def get(self, order_id: str) -> Answer | None:
        return await self._until_answered("GET", f"/orders/{order_id}", order_id)

    async def cancel(self, order_id: str) -> Answer | None:
        return await self._until_answered("POST", f"/orders/{order_id}/cancel", order_id, cancels=True)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    async def _until_answered(
        self,
        method: str,
        path: str,
        order_id: str,
        body: bytes = b"",
        *,
        content: str | None = None,
        cancels: bool = False,
    ) -> Answer | None:
        """None when the load is over before."""
        clock = asyncio.get_running_loop().time
        attempts, told = 0, False
        while not self._load.over:
            asked_at = clock()
            attempts += 1
            try:
                async with asyncio.timeout(_REQUEST_SECONDS_MAX):
                    answer = await self._next().request(method, path, body)
            except (OSError, EOFError, ValueError):  # TimeoutError is an OSError; a broken head a ValueError
                self._load.broken += 1
            else:
                recorded = _recorded(order_id, content, answer, asked_at, clock(), cancels)
                self._load.answers.append(recorded)
                if answer.status != 503:
                    return recorded
                self._load.refused[503] += 1
            if attempts >= len(self._urls) and not told:
                self._load.unserved, told = self._load.unserved + 1, True
            await asyncio.sleep(_PAUSE_SECONDS)
        return None

    def _next(self) -> HttpConnection:
        self._turn += 1
        url = self._urls[self._turn % len(self._urls)]
        return self._connections.setdefault(url, HttpConnection(url))


def _recorded(
    order_id: str,
    content: str | None,
    answer: HttpAnswer,
    asked_at: float,
    answered_at: float,
    cancels: bool,
) -> Answer:
    return Answer(
        order_id=order_id,
        content=content,
        status=answer.status,
        replayed=answer.headers.get("idempotent-replayed") == "true",
        order=answer.json() if answer.status in (200, 201) else None,
        asked_at=asked_at,
        answered_at=answered_at,
        cancels=cancels,
    )
