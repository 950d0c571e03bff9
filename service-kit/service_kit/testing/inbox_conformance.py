"""What every Inbox does. A subclass names itself `Test…` and gives the fixture `stores`."""

import asyncio
from contextlib import suppress

import pytest

from service_kit.testing.stores_conformance import Stores


class RolledBack(Exception):
    """On purpose."""


class InboxConformance:
    async def test_new_keys_are_accepted(self, stores: Stores) -> None:
        assert await accept(stores, "b", "a", "ü:1") == {"a", "b", "ü:1"}

    async def test_a_key_is_accepted_once(self, stores: Stores) -> None:
        await accept(stores, "a", "b")
        assert await accept(stores, "b", "c") == {"c"}

    async def test_a_key_given_twice_is_accepted_once(self, stores: Stores) -> None:
        assert await accept(stores, "a", "a") == {"a"}

    async def test_no_keys_are_no_trouble(self, stores: Stores) -> None:
        assert await accept(stores) == set()

    async def test_a_key_is_accepted_once_within_its_own_transaction(self, stores: Stores) -> None:
        async with stores.inbox() as inbox:
            assert await inbox.accept(["a"]) == {"a"}
            assert await inbox.accept(["a", "b"]) == {"b"}

    async def test_a_rolled_back_key_is_new_again(self, stores: Stores) -> None:
        with pytest.raises(RolledBack):
            async with stores.inbox() as inbox:
                await inbox.accept(["a"])
                raise RolledBack
        assert await accept(stores, "a") == {"a"}

    async def test_of_two_transactions_at_once_the_second_waits_for_a_commit(self, stores: Stores) -> None:
        async with stores.inbox() as inbox:
            await inbox.accept(["a", "b"])
            second = asyncio.create_task(accept(stores, "a", "b", "c"))
            assert await accept(stores, "unrelated") == {"unrelated"}
            assert not second.done()
        assert await second == {"c"}

    async def test_of_two_transactions_at_once_the_second_wins_after_a_rollback(self, stores: Stores) -> None:
        with suppress(RolledBack):
            async with stores.inbox() as inbox:
                await inbox.accept(["a"])
                second = asyncio.create_task(accept(stores, "a"))
                assert await accept(stores, "unrelated") == {"unrelated"}
                raise RolledBack
        assert await second == {"a"}

    async def test_many_batches_with_common_keys_accept_each_key_once(self, stores: Stores) -> None:
        keys = [f"key {number}" for number in range(40)]
        batches = [keys, keys[::-1], keys[20:] + keys[:20], keys]

        accepted = await asyncio.gather(*(accept(stores, *batch) for batch in batches))

        assert sorted(key for batch in accepted for key in batch) == sorted(keys)


async def accept(stores: Stores, *keys: str) -> set[str]:
    async with stores.inbox() as inbox:
        return await inbox.accept(keys)
