"""Keys in memory: how long, how many, and who asks for them."""

import asyncio
from dataclasses import dataclass, field

import pytest

from service_kit.api_keys import NewSecret, new_secret
from service_kit.errors import DatabaseUnavailable
from service_kit.http.principal import Principal, Role
from service_kit.key_ring import KNOWN_SECONDS, FoundKey, KeyRing

SHOP = Principal(name="shop", roles=frozenset({Role.WRITE}))


@dataclass(slots=True)
class Table:
    """The database, and the clock of the ring."""

    keys: dict[bytes, FoundKey] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)
    now: float = 0.0
    is_down: bool = False
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    async def find(self, hash_: bytes) -> FoundKey | None:
        self.asked.append(hash_)
        await self.answering.wait()
        if self.is_down:
            raise DatabaseUnavailable("down")
        return self.keys.get(hash_)

    def clock(self) -> float:
        return self.now

    def add(self, *, seconds_left: float | None = None) -> NewSecret:
        secret = new_secret()
        self.keys[secret.hash] = FoundKey(secret.hash, SHOP, seconds_left)
        return secret


@pytest.fixture
def table() -> Table:
    return Table()


def ring_of(table: Table, *, kept_max: int = 100) -> KeyRing:
    return KeyRing(table.find, clock=table.clock, kept_max=kept_max)


async def test_a_key_is_looked_up_once_and_again_after_its_time(table: Table) -> None:
    ring, key = ring_of(table), table.add().key.encode()

    assert [await ring.principal(key) for _ in range(3)] == [SHOP] * 3
    assert len(table.asked) == 1
    table.now = KNOWN_SECONDS
    assert await ring.principal(key) == SHOP
    assert len(table.asked) == 2


async def test_a_revoked_key_is_taken_no_longer_than_it_is_remembered(table: Table) -> None:
    ring, secret = ring_of(table), table.add()
    assert await ring.principal(secret.key.encode())

    del table.keys[secret.hash]
    table.now = KNOWN_SECONDS

    assert await ring.principal(secret.key.encode()) is None


async def test_a_change_in_this_process_counts_at_once(table: Table) -> None:
    ring, secret = ring_of(table), table.add()
    assert await ring.principal(secret.key.encode())

    del table.keys[secret.hash]
    ring.forget()

    assert await ring.principal(secret.key.encode()) is None


async def test_a_key_ends_when_it_expires_and_not_when_it_is_looked_up_again(table: Table) -> None:
    ring, secret = ring_of(table), table.add(seconds_left=1.0)
    assert await ring.principal(secret.key.encode())

    del table.keys[secret.hash]
    table.now = 1.0

    assert await ring.principal(secret.key.encode()) is None


async def test_what_is_no_key_is_not_asked_for(table: Table) -> None:
    assert await ring_of(table).principal(b"ork_guess") is None
    assert table.asked == []


async def test_many_who_come_at_once_are_one_question(table: Table) -> None:
    ring, key = ring_of(table), table.add().key.encode()
    table.answering.clear()
    asking = [asyncio.create_task(ring.principal(key)) for _ in range(10)]
    await asyncio.sleep(0)

    asking[0].cancel()
    await asyncio.sleep(0)
    table.answering.set()

    assert await asyncio.gather(*asking[1:]) == [SHOP] * 9
    assert len(table.asked) == 1


async def test_an_outage_is_told_and_not_remembered(table: Table) -> None:
    ring, key = ring_of(table), table.add().key.encode()
    table.is_down = True
    with pytest.raises(DatabaseUnavailable):
        await ring.principal(key)

    table.is_down = False

    assert await ring.principal(key) == SHOP


async def test_who_tries_many_keys_displaces_no_good_one(table: Table) -> None:
    ring, key = ring_of(table, kept_max=3), table.add().key.encode()
    assert await ring.principal(key)

    for _ in range(10):
        assert await ring.principal(new_secret().key.encode()) is None
    table.asked.clear()

    assert await ring.principal(key) == SHOP
    assert table.asked == []
    assert len(ring._unknown) == 3


async def test_an_unknown_key_that_becomes_good_is_found(table: Table) -> None:
    ring, secret = ring_of(table), new_secret()
    assert await ring.principal(secret.key.encode()) is None

    table.keys[secret.hash] = FoundKey(secret.hash, SHOP, None)
    table.now = KNOWN_SECONDS

    assert await ring.principal(secret.key.encode()) == SHOP
