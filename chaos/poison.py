"""Messages that no version of the services can handle, each with bytes of its own."""

import asyncio
from hashlib import sha256
from random import Random

import msgspec

from chaos.bystander import Bystander

_PAUSE_SECONDS = 0.7

Poison = tuple[str, bytes]
"""Routing key and body: what must be found among the dead letters, and nothing else."""


class Poisoner:
    """Sends poison now and then; `sent` is what must be among the dead letters of each database."""

    def __init__(self, bystander: Bystander, seed: int) -> None:
        self.sent: list[Poison] = []
        self._bystander = bystander
        self._random = Random(seed)
        self._stopping = False

    async def run(self) -> None:
        """Until stopped; may be run again."""
        self._stopping = False
        while not self._stopping:
            await self.send(1)
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * _PAUSE_SECONDS)

    def stop(self) -> None:
        """What was begun is still sent."""
        self._stopping = True

    async def send(self, count: int) -> None:
        await self.send_these(self.make(count))

    def make(self, count: int) -> list[Poison]:
        return [self._new() for _ in range(count)]

    async def send_these(self, poison: list[Poison]) -> None:
        """Sent until confirmed, perhaps more than once: it is the same poison then, with the same id."""
        self.sent += poison
        await self._bystander.publish_all([(key, body, self.message_id(body)) for key, body in poison])

    @staticmethod
    def message_id(body: bytes) -> str:
        return f"poison-{sha256(body).hexdigest()[:16]}"

    def _new(self) -> Poison:
        name = f"poison-{len(self.sent)}-{self._random.getrandbits(32):08x}"
        created = {"order_id": name, "customer_id": "c", "items": ["lamp"], "amount": 1, "version": 1}
        processed = {"order_id": name, "status": "success", "fail_reason": None, "version": 2}
        bodies: list[tuple[str, object]] = [
            ("order.created", created | {"version": 0}),
            ("order.created", created | {"items": "many"}),
            ("order.created", created | {"order_id": f"{name}\0"}),
            ("order.created", {"customer_id": name}),
            ("order.processed", processed | {"status": "perhaps"}),
            ("order.processed", processed | {"version": "two"}),
            ("order.processed", {"order_id": name}),
        ]
        if self._random.random() < 0.3:
            return self._random.choice(["order.created", "order.processed"]), f"\xff no JSON {name}".encode(
                "latin-1"
            )
        key, body = self._random.choice(bodies)
        return key, msgspec.json.encode(body)
