"""What every DeadLetters does. A subclass names itself `Test…` and gives the fixture `stores`."""

import asyncio
import json
from collections.abc import Sequence

from service_kit.failures import DeadLetter
from service_kit.testing.stores_conformance import HOUR, Stores, bury, failed_event, outbox_event, postpone


class DeadLettersConformance:
    async def test_letters_are_listed_from_the_oldest_a_page_at_a_time(self, stores: Stores) -> None:
        for number in range(5):
            await bury(stores, failed_event(f"key {number}"))

        first = await stores.dead_letters.list(limit=2)
        second = await stores.dead_letters.list(limit=2, after_id=first[-1].id)
        third = await stores.dead_letters.list(limit=2, after_id=second[-1].id)

        keys = [letter.event_key for page in (first, second, third) for letter in page]
        assert keys == [f"key {number}" for number in range(5)]
        assert len(third) == 1

    async def test_a_letter_can_be_looked_at(self, stores: Stores) -> None:
        letter = await buried(stores)
        assert await stores.dead_letters.get(letter.id) == letter

    async def test_a_letter_that_is_not_there_is_none(self, stores: Stores) -> None:
        assert await stores.dead_letters.get(12345) is None

    # replaying

    async def test_a_replayed_event_of_the_consumer_is_due_at_once_as_if_new(self, stores: Stores) -> None:
        letter = await buried(stores)

        assert await stores.dead_letters.replay([letter.id]) == 1

        assert await stores.dead_letters.list(limit=10) == []
        (delivery,) = await stores.failures.lease_due(10, lease_seconds=HOUR)
        assert delivery.body == letter.body
        assert delivery.routing_key == letter.event_type
        assert delivery.message_id == letter.message_id
        assert delivery.headers == letter.headers
        assert delivery.attempt == 1
        assert delivery.last_error == letter.reason

    async def test_a_replayed_event_of_the_outbox_is_published_again(self, stores: Stores) -> None:
        letter = await rejected_for_good(stores)

        assert await stores.dead_letters.replay([letter.id]) == 1

        assert await stores.dead_letters.list(limit=10) == []
        async with stores.outbox.claim(10) as claim:
            (row,) = claim.rows
        assert json.loads(row.payload) == json.loads(letter.body)
        assert row.event_type == letter.event_type
        assert row.message_id == letter.message_id
        assert row.traceparent == letter.headers["traceparent"]
        assert row.attempts == 0
        assert await stores.failures.lease_due(10, lease_seconds=HOUR) == []

    async def test_letters_of_both_kinds_are_replayed_together(self, stores: Stores) -> None:
        letters = [await rejected_for_good(stores)]
        await bury(stores, failed_event("key 1"), failed_event("key 2"))
        letters = [*await stores.dead_letters.list(limit=10)]

        assert await stores.dead_letters.replay([letter.id for letter in letters]) == 3

        assert len(await stores.failures.lease_due(10, lease_seconds=HOUR)) == 2
        assert (await stores.outbox.backlog()).pending == 1

    async def test_replaying_twice_hands_the_event_back_once(self, stores: Stores) -> None:
        letter = await buried(stores)
        assert await stores.dead_letters.replay([letter.id, letter.id]) == 1
        assert await stores.dead_letters.replay([letter.id]) == 0
        assert len(await stores.failures.lease_due(10, lease_seconds=HOUR)) == 1

    async def test_two_who_replay_at_once_hand_each_event_back_once(self, stores: Stores) -> None:
        await rejected_for_good(stores)
        await bury(stores, *(failed_event(f"key {number}") for number in range(10)))
        ids = [letter.id for letter in await stores.dead_letters.list(limit=100)]

        counts = await asyncio.gather(
            *(stores.dead_letters.replay(some) for some in (ids, ids[::-1], ids[5:] + ids[:5]))
        )

        assert sum(counts) == 11
        assert len(await stores.failures.lease_due(100, lease_seconds=HOUR)) == 10
        assert (await stores.outbox.backlog()).pending == 1

    async def test_replaying_an_event_that_waits_already_makes_it_due(self, stores: Stores) -> None:
        letter = await buried(stores)
        await postpone(stores, failed_event(letter.event_key, attempt=9), delay_seconds=HOUR)

        await stores.dead_letters.replay([letter.id])

        (delivery,) = await stores.failures.lease_due(10, lease_seconds=HOUR)
        assert delivery.attempt == 1

    async def test_a_replayed_event_that_dies_again_is_a_dead_letter_again(self, stores: Stores) -> None:
        letter = await buried(stores)
        await stores.dead_letters.replay([letter.id])
        (delivery,) = await stores.failures.lease_due(10, lease_seconds=HOUR)

        await bury(stores, failed_event(letter.event_key, reason="again"), ended=[delivery.tag])

        (again,) = await stores.dead_letters.list(limit=10)
        assert (again.event_key, again.reason, again.times_seen) == (letter.event_key, "again", 1)

    async def test_a_replayed_outbox_event_may_die_again(self, stores: Stores) -> None:
        letter = await rejected_for_good(stores)
        await stores.dead_letters.replay([letter.id])
        again = await reject_until_dead(stores)
        assert again.event_key == letter.event_key
        assert await stores.dead_letters.replay([again.id]) == 1

    async def test_an_event_without_message_id_and_headers_is_replayed(self, stores: Stores) -> None:
        await bury(stores, failed_event(message_id=None, headers={}))
        (letter,) = await stores.dead_letters.list(limit=10)
        assert await stores.dead_letters.replay([letter.id]) == 1
        (delivery,) = await stores.failures.lease_due(10, lease_seconds=HOUR)
        assert (delivery.message_id, delivery.headers) == (None, {})

    async def test_a_replayed_event_loses_what_the_broker_noted_of_its_death(self, stores: Stores) -> None:
        death: dict[str, object] = {f"x-first-death-{name}": name for name in ("exchange", "queue", "reason")}
        death |= {f"x-last-death-{name}": name for name in ("exchange", "queue", "reason")}
        death |= {"x-death": [{"count": 3, "queue": "q"}], "x-delivery-count": 2, "x-acquired-count": 2}
        kept: dict[str, object] = {"traceparent": "00-1", "x-sender": "us", "x-deaths-door": 1}
        await bury(stores, failed_event(headers=death | kept))
        (letter,) = await stores.dead_letters.list(limit=10)
        assert letter.headers == death | kept

        await stores.dead_letters.replay([letter.id])

        (delivery,) = await stores.failures.lease_due(10, lease_seconds=HOUR)
        assert delivery.headers == kept

    async def test_replaying_nothing_is_no_trouble(self, stores: Stores) -> None:
        assert await stores.dead_letters.replay([]) == 0
        assert await stores.dead_letters.replay([12345]) == 0

    # discarding

    async def test_a_discarded_letter_is_gone_and_its_neighbours_stay(self, stores: Stores) -> None:
        await bury(stores, failed_event("a"), failed_event("b"))
        first, second = await stores.dead_letters.list(limit=10)

        assert await stores.dead_letters.discard([first.id, 12345], reason="a test order") == 1

        assert await stores.dead_letters.list(limit=10) == [second]
        assert await stores.failures.lease_due(10, lease_seconds=HOUR) == []

    async def test_a_discarded_letter_cannot_be_replayed(self, stores: Stores) -> None:
        letter = await buried(stores)
        counts = await asyncio.gather(
            stores.dead_letters.discard([letter.id], reason="a test order"),
            stores.dead_letters.replay([letter.id]),
        )
        assert sum(counts) == 1
        assert await stores.dead_letters.discard([letter.id], reason="again") == 0


async def buried(stores: Stores) -> DeadLetter:
    await bury(stores, failed_event(attempt=10, headers={"traceparent": "00-1"}))
    (letter,) = await stores.dead_letters.list(limit=10)
    return letter


async def rejected_for_good(stores: Stores) -> DeadLetter:
    """A letter that came from the outbox."""
    await stores.add_to_outbox(outbox_event(1))
    return await reject_until_dead(stores)


async def reject_until_dead(stores: Stores) -> DeadLetter:
    dead: int = 0
    while not dead:
        async with stores.outbox.claim(1) as claim:
            dead = await claim.settle(published=[], rejected={row.id: "refused" for row in claim.rows})
        await stores.pass_time(HOUR)
    letters: Sequence[DeadLetter] = await stores.dead_letters.list(limit=10)
    return letters[0]
