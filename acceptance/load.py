"""Orders, posted by many connections at once."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from acceptance.http_client import Answer, HttpConnection

_encoder = msgspec.json.Encoder()


def order_body(order_id: str, *, customer_id: str = "cust-1", sku: str = "laptop") -> bytes:
    items = [{"sku": sku, "quantity": 1, "price": 1200.0}, {"sku": "mouse", "quantity": 2, "price": 25.0}]
    return _encoder.encode({"order_id": order_id, "customer_id": customer_id, "items": items})


async def post_all(urls: Sequence[str], bodies: Iterable[bytes], *, connections: int = 64) -> list[Answer]:
    """Post each body once, over `connections` in all spread over `urls`; the answers, in no order."""
    answers: list[Answer] = []
    remaining = iter(bodies)

    async def worker(url: str) -> None:
        connection = HttpConnection(url)
        try:
            for body in remaining:
                answers.append(await connection.request("POST", "/orders", body))
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(worker(urls[number % len(urls)]))
    return answers


class SteadyLoad:
    """Posts orders at `per_second` until stopped; each is sent again until it is answered, as a client would.

    `accepted` holds the ids that were answered 201, `refused` counts other answers by their status.
    """

    def __init__(self, url: str, *, per_second: float, prefix: str) -> None:
        self._url = url
        self._pause_seconds = 1 / per_second
        self._prefix = prefix
        self._stopping = asyncio.Event()
        self.accepted: list[str] = []
        self.refused: Counter[int] = Counter()
        self.broken = 0

    async def run(self, *, connections: int = 4) -> None:
        numbers = iter(range(10**9))
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._worker(numbers, self._pause_seconds * connections))

    def stop(self) -> None:
        self._stopping.set()

    async def _worker(self, numbers: Iterable[int], pause_seconds: float) -> None:
        connection = HttpConnection(self._url)
        try:
            for number in numbers:
                if self._stopping.is_set():
                    return
                await self._post(connection, f"{self._prefix}-{number}")
                await asyncio.sleep(pause_seconds)
        finally:
            connection.close()

    async def _post(self, connection: HttpConnection, order_id: str) -> None:
        while True:
            try:
                answer = await connection.request("POST", "/orders", order_body(order_id))
            except (OSError, EOFError):
                self.broken += 1
            else:
                if answer.status == 201:
                    self.accepted.append(order_id)
                    return
                self.refused[answer.status] += 1
            await asyncio.sleep(0.05)
