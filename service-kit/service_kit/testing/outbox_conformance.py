"""What every OutboxStore does. A subclass names itself `Test…` and gives the fixture `stores`."""

import asyncio
import json
from collections.abc import Collection
from uuid import UUID

import pytest

from service_kit.outbox import OutboxEvent, OutboxRow
from service_kit.testing.stores_conformance import HOUR, Stores, outbox_event


class OutboxConformance:
    async def test_a_claim_shows_the_events_as_they_were_written(self, stores: Stores) -> None:
        await stores.add_to_outbox(outbox_event(1))

        (row,) = await claimed(stores)

        assert json.loads(row.payload) == {"number": 1}
        assert row.event_type == "order.created"
        assert row.traceparent == outbox_event(1).traceparent
        assert row.attempts == 0
        assert UUID(row.message_id)

    async def test_a_claim_says_how_long_each_event_has_been_waiting(self, stores: Stores) -> None:
        await add(stores, 1)
        await stores.pass_time(HOUR)
        await add(stores, 1)
        older, younger = await claimed(stores)
        assert older.waited_seconds >= HOUR > younger.waited_seconds >= 0

    async def test_message_ids_are_unique_and_stay_the_same(self, stores: Stores) -> None:
        await add(stores, 3)

        first, again = await claimed(stores), await claimed(stores)

        assert len({row.message_id for row in first}) == 3
        assert [row.message_id for row in first] == [row.message_id for row in again]

    async def test_the_oldest_come_first_up_to_the_limit(self, stores: Stores) -> None:
        await add(stores, 5)
        assert numbers(await claimed(stores, 3)) == [0, 1, 2]

    async def test_an_empty_outbox_gives_an_empty_claim(self, stores: Stores) -> None:
        assert await claimed(stores) == []

    async def test_a_payload_of_any_text_comes_back_the_same(self, stores: Stores) -> None:
        content = {"text": 'ü "\\ \U0001f355', "amount": 12.5, "nested": [{"a": None}, True]}
        payload = json.dumps(content).encode()
        await stores.add_to_outbox(OutboxEvent(event_type="odd", payload=payload, traceparent="t"))

        (row,) = await claimed(stores)

        assert json.loads(row.payload) == content

    # whose rows

    async def test_claimed_rows_are_hidden_from_other_claims(self, stores: Stores) -> None:
        await add(stores, 5)
        async with stores.outbox.claim(2) as one, stores.outbox.claim(2) as two:
            assert numbers(one.rows) == [0, 1]
            assert numbers(two.rows) == [2, 3]
            assert numbers(await claimed(stores)) == [4]

    async def test_many_claims_at_once_never_share_a_row(self, stores: Stores) -> None:
        await add(stores, 20)
        published: list[int] = []

        async def drain() -> None:
            while True:
                async with stores.outbox.claim(3) as claim:
                    if not claim.rows:
                        return
                    published.extend(row.id for row in claim.rows)
                    await claim.settle(published=[row.id for row in claim.rows], rejected={})

        await asyncio.gather(*(drain() for _ in range(4)))

        assert len(published) == len(set(published)) == 20

    async def test_a_claim_left_without_settling_releases_its_rows(self, stores: Stores) -> None:
        await add(stores, 2)
        async with stores.outbox.claim(2):
            pass
        assert [row.attempts for row in await claimed(stores)] == [0, 0]

    async def test_a_claim_may_take_one_type_only(self, stores: Stores) -> None:
        await add_mixed(stores)
        assert numbers(await claimed(stores, only="b")) == [1, 3]

    async def test_a_claim_may_leave_types_out(self, stores: Stores) -> None:
        await add_mixed(stores)
        assert numbers(await claimed(stores, excluding=["b"])) == [0, 2]
        assert numbers(await claimed(stores, excluding=["a", "b"])) == []

    # settling

    async def test_published_rows_are_removed_and_others_stay(self, stores: Stores) -> None:
        await add(stores, 3)

        await settle(stores, published=[0, 2])

        assert numbers(await claimed(stores)) == [1]

    async def test_nothing_is_settled_before_the_claim_ends(self, stores: Stores) -> None:
        await add(stores, 2)
        async with stores.outbox.claim(1) as claim:
            await claim.settle(published=[claim.rows[0].id], rejected={})
            assert (await stores.outbox.backlog()).pending == 2
        assert (await stores.outbox.backlog()).pending == 1

    async def test_an_exception_leaves_everything_as_it_was(self, stores: Stores) -> None:
        await add(stores, 2)
        with pytest.raises(RuntimeError, match="on the way"):
            async with stores.outbox.claim(2) as claim:
                await claim.settle(published=[claim.rows[0].id], rejected={claim.rows[1].id: "refused"})
                raise RuntimeError("on the way")
        assert [(row.attempts, number) for row, number in with_numbers(await claimed(stores))] == [
            (0, 0),
            (0, 1),
        ]
        assert await stores.dead_letters.list(limit=10) == []

    async def test_a_cancelled_claim_leaves_everything_as_it_was(self, stores: Stores) -> None:
        await add(stores, 1)
        settled = asyncio.Event()

        async def settle_and_hang() -> None:
            async with stores.outbox.claim(1) as claim:
                await claim.settle(published=[claim.rows[0].id], rejected={})
                settled.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(settle_and_hang())
        await settled.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert numbers(await claimed(stores)) == [0]

    # rejected

    async def test_a_rejected_row_waits_by_the_retry_policy(self, stores: Stores) -> None:
        await add(stores, 2)

        assert await settle(stores, rejected=[0]) == 0

        assert numbers(await claimed(stores)) == [1]
        await stores.pass_time(60)
        assert [(row.attempts, number) for row, number in with_numbers(await claimed(stores))] == [
            (1, 0),
            (0, 1),
        ]

    async def test_a_row_rejected_at_its_last_attempt_becomes_a_dead_letter(self, stores: Stores) -> None:
        await add(stores, 1)
        (row,) = await claimed(stores)
        assert await settle(stores, rejected=[0]) == 0
        await stores.pass_time(60)
        assert await settle(stores, rejected=[0]) == 0
        await stores.pass_time(119)
        assert await claimed(stores) == []
        await stores.pass_time(1)
        assert await settle(stores, rejected=[0], reason="too odd") == 1

        assert (await stores.outbox.backlog()).pending == 0
        (letter,) = await stores.dead_letters.list(limit=10)
        assert json.loads(letter.body) == {"number": 0}
        assert letter.event_type == "order.created"
        assert letter.event_key == f"outbox:{row.message_id}"
        assert letter.message_id == row.message_id
        assert letter.headers == {"traceparent": row.traceparent}
        assert letter.reason == "too odd"
        assert letter.attempts == 3

    async def test_one_batch_may_be_published_postponed_and_dead(self, stores: Stores) -> None:
        await add(stores, 1)
        for seconds in (60, 120):
            await settle(stores, rejected=[0])
            await stores.pass_time(seconds)
        await add(stores, 4, start=1)

        assert await settle(stores, published=[1, 2], rejected=[0, 3]) == 1

        assert numbers(await claimed(stores)) == [4]
        assert (await stores.outbox.backlog()).pending == 2
        assert len(await stores.dead_letters.list(limit=10)) == 1

    @pytest.mark.parametrize("reason", ["NUL \0 within", "a lone \ud800", "ö" * 100_000, ""])
    async def test_the_reason_may_be_any_text(self, stores: Stores, reason: str) -> None:
        await add(stores, 1)
        for seconds in (60, 120, 0):
            await settle(stores, rejected=[0], reason=reason)
            await stores.pass_time(seconds)
        assert len(await stores.dead_letters.list(limit=10)) == 1

    # measuring

    async def test_the_backlog_counts_claimed_and_postponed_rows_too(self, stores: Stores) -> None:
        await add(stores, 3)
        await settle(stores, rejected=[0])
        async with stores.outbox.claim(1):
            assert (await stores.outbox.backlog()).pending == 3

    async def test_the_backlog_knows_its_oldest_event(self, stores: Stores) -> None:
        assert (await stores.outbox.backlog()).oldest_created_at is None
        await add(stores, 1)
        first = (await stores.outbox.backlog()).oldest_created_at
        assert first and first.tzinfo
        await add(stores, 1, start=1)
        assert (await stores.outbox.backlog()).oldest_created_at == first
        await settle(stores, published=[0])
        second = (await stores.outbox.backlog()).oldest_created_at
        assert second and second >= first

    async def test_the_lag_is_the_age_of_the_oldest_event(self, stores: Stores) -> None:
        assert await stores.outbox.lag_seconds() == 0
        await add(stores, 1)
        await stores.pass_time(600)
        await add(stores, 1)
        assert await stores.outbox.lag_seconds() >= 600


async def add(stores: Stores, count: int, *, start: int = 0) -> None:
    """Events that are known by their number."""
    await stores.add_to_outbox(*(outbox_event(number) for number in range(start, start + count)))


async def add_mixed(stores: Stores) -> None:
    await stores.add_to_outbox(
        *(outbox_event(number, event_type) for number, event_type in enumerate(["a", "b", "a", "b"]))
    )


async def claimed(
    stores: Stores, limit: int = 100, *, only: str | None = None, excluding: Collection[str] = ()
) -> list[OutboxRow]:
    """The rows of a claim that ends at once."""
    async with stores.outbox.claim(limit, only=only, excluding=excluding) as claim:
        return [*claim.rows]


async def settle(
    stores: Stores,
    *,
    published: Collection[int] = (),
    rejected: Collection[int] = (),
    reason: str = "refused",
) -> int:
    """Settle the events with those numbers; how many became dead letters."""
    async with stores.outbox.claim(100) as claim:
        ids = {number: row.id for row, number in with_numbers(claim.rows)}
        return await claim.settle(
            published=[ids[number] for number in published],
            rejected={ids[number]: reason for number in rejected},
        )


def numbers(rows: Collection[OutboxRow]) -> list[int]:
    return [number for _, number in with_numbers(rows)]


def with_numbers(rows: Collection[OutboxRow]) -> list[tuple[OutboxRow, int]]:
    return [(row, json.loads(row.payload)["number"]) for row in rows]
