"""What every FailureStore does. A subclass names itself `Test…` and gives the fixture `stores`."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from service_kit.failures import DeadLetter, FailedEvent
from service_kit.message import Delivery
from service_kit.testing.stores_conformance import HOUR, Stores, bury, failed_event, postpone

KEY = "order.created:o1:1"

ODD_BODIES = {
    "empty": b"",
    "no JSON": b"\xff\xfe not JSON",
    "NUL": b"a\0b",
    "a NUL inside of JSON": b'{"order_id":"a\\u0000b"}',
    "a lone surrogate inside of JSON": b'{"order_id":"\\ud800"}',
    "a number beyond numeric": b'{"amount":1e999999}',
    "a number of many digits": b'{"amount":' + b"9" * 200_000 + b"}",
    "deep nesting": b"[" * 20_000 + b"]" * 20_000,
    "a duplicate name": b'{"a":1,"a":2}',
    "a bare value": b"null",
    "NaN": b'{"amount":NaN}',
    "2 MB": b'{"text":"' + b"x" * 2_000_000 + b'"}',
    "2 MB of no JSON": bytes(range(256)) * 8_000,
}

ODD_HEADERS: Mapping[str, object] = {
    "nul": "a\0b",
    "surrogate": "\ud800",
    "name with \0 and \udfff": 1,
    "bytes": b"\xff\0",
    "moment": datetime(2030, 1, 1, tzinfo=UTC),
    "amount": Decimal("1.50"),
    "number": 2**63,
    "huge": 2**200,
    "float": float("nan"),
    "none": None,
    "list": [1, "\0", {"deeper": b"x", 7: "a name that is no text"}],
    "object": object(),
}


class FailuresConformance:
    # retries

    async def test_a_postponed_event_comes_due_after_its_delay(self, stores: Stores) -> None:
        await postpone(stores, failed_event(attempt=2, reason="no stock"), delay_seconds=HOUR)

        assert await lease(stores) == []
        await stores.pass_time(HOUR - 600)
        assert await lease(stores) == []
        await stores.pass_time(600)
        (delivery,) = await lease(stores)

        assert delivery.body == b'{"order_id":"o1"}'
        assert delivery.routing_key == "order.created"
        assert delivery.message_id == "m1"
        assert delivery.attempt == 3
        assert delivery.last_error == "no stock"
        assert delivery.redelivered

    async def test_what_comes_due_first_is_leased_first(self, stores: Stores) -> None:
        for key, delay_seconds in {"late": 300, "early": 100, "middle": 200}.items():
            await postpone(stores, failed_event(key, reason=key), delay_seconds=delay_seconds)
        await stores.pass_time(HOUR)

        leases = [await lease(stores, limit=1) for _ in range(4)]

        assert [[delivery.last_error for delivery in some] for some in leases] == [
            ["early"],
            ["middle"],
            ["late"],
            [],
        ]

    async def test_a_leased_retry_is_hidden_until_the_lease_ends(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), delay_seconds=0)
        (first,) = await lease(stores, lease_seconds=600)
        assert await lease(stores) == []
        await stores.pass_time(600)
        (again,) = await lease(stores)
        assert again == first

    async def test_two_leases_at_once_share_nothing(self, stores: Stores) -> None:
        await postpone(stores, *(failed_event(f"key {number}") for number in range(20)), delay_seconds=0)

        leases = await asyncio.gather(*(lease(stores, limit=5) for _ in range(4)))

        tags = [delivery.tag for some in leases for delivery in some]
        assert len(tags) == len(set(tags)) == 20

    async def test_an_ended_retry_is_gone(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), delay_seconds=0)
        (delivery,) = await lease(stores)
        await stores.failures.set_aside([], [], ended=[delivery.tag])
        await stores.pass_time(HOUR)
        assert await lease(stores) == []

    async def test_a_retry_that_fails_again_keeps_the_time_of_its_first_failure(self, stores: Stores) -> None:
        await postpone(stores, failed_event(attempt=1), delay_seconds=60)
        await stores.pass_time(HOUR)
        (delivery,) = await lease(stores)

        await postpone(
            stores, failed_event(attempt=2, reason="still"), delay_seconds=60, ended=[delivery.tag]
        )

        assert await stores.seconds_since_first_failure(KEY) >= HOUR
        assert await lease(stores) == []
        await stores.pass_time(60)
        (again,) = await lease(stores)
        assert (again.attempt, again.last_error) == (3, "still")

    async def test_a_duplicate_brings_a_waiting_event_neither_forward_nor_back(self, stores: Stores) -> None:
        await postpone(stores, failed_event(attempt=5), delay_seconds=600)
        await postpone(stores, failed_event(attempt=1), delay_seconds=0)
        assert await lease(stores) == []
        await postpone(stores, failed_event(attempt=1), delay_seconds=24 * HOUR)
        await stores.pass_time(600)
        (delivery,) = await lease(stores)
        assert delivery.attempt == 6

    async def test_an_event_that_fails_twice_in_one_batch_is_postponed_once(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), failed_event(), delay_seconds=0)
        assert len(await lease(stores)) == 1

    async def test_a_late_settlement_after_the_lease_stores_nothing_twice(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), delay_seconds=0)
        (slow,) = await lease(stores, lease_seconds=60)
        await stores.pass_time(60)
        (other,) = await lease(stores, lease_seconds=60)
        await postpone(stores, failed_event(attempt=2), delay_seconds=0, ended=[other.tag])
        await postpone(stores, failed_event(attempt=2), delay_seconds=0, ended=[slow.tag])
        assert len(await lease(stores)) == 1

    async def test_the_store_says_which_events_wait(self, stores: Stores) -> None:
        await postpone(stores, failed_event("a"), failed_event("b"))
        await bury(stores, failed_event("c"))
        assert await stores.failures.postponed(["a", "b", "c", "d"]) == {"a", "b"}
        assert await stores.failures.postponed([]) == set()

    async def test_a_leased_event_waits_still(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), delay_seconds=0)
        await lease(stores)
        assert await stores.failures.postponed([KEY]) == {KEY}

    # dead letters

    async def test_a_dead_event_becomes_a_dead_letter(self, stores: Stores) -> None:
        await bury(stores, failed_event(attempt=10, headers={"traceparent": "00-1"}))

        letter = await only_letter(stores)

        assert letter.event_key == KEY
        assert letter.event_type == "order.created"
        assert letter.body == b'{"order_id":"o1"}'
        assert letter.message_id == "m1"
        assert letter.headers == {"traceparent": "00-1"}
        assert letter.reason == "no stock"
        assert letter.attempts == 10
        assert letter.times_seen == 1
        assert letter.moved_to_dlq_at.tzinfo

    async def test_a_dead_letter_seen_again_is_counted_and_not_doubled(self, stores: Stores) -> None:
        await bury(stores, failed_event(reason="first"))
        first = await only_letter(stores)
        await bury(stores, failed_event(reason="second"), failed_event(reason="third"))
        letter = await only_letter(stores)
        assert (letter.times_seen, letter.reason) == (3, "third")
        assert (letter.id, letter.moved_to_dlq_at) == (first.id, first.moved_to_dlq_at)

    async def test_a_retry_that_dies_leaves_the_retries(self, stores: Stores) -> None:
        await postpone(stores, failed_event(), delay_seconds=0)
        (delivery,) = await lease(stores)
        await bury(stores, failed_event(attempt=2), ended=[delivery.tag])
        assert await stores.failures.postponed([KEY]) == set()
        assert (await only_letter(stores)).attempts == 2

    async def test_two_that_bury_the_same_events_at_once_bury_them_once(self, stores: Stores) -> None:
        events = [failed_event(f"key {number}") for number in range(10)]
        await asyncio.gather(bury(stores, *events), bury(stores, *events[::-1]))
        letters = await stores.dead_letters.list(limit=100)
        assert [letter.times_seen for letter in letters] == [2] * 10

    async def test_two_that_postpone_the_same_events_at_once_postpone_them_once(self, stores: Stores) -> None:
        events = [failed_event(f"key {number}") for number in range(10)]
        await asyncio.gather(
            postpone(stores, *events, delay_seconds=0), postpone(stores, *events[::-1], delay_seconds=0)
        )
        assert len(await lease(stores)) == 10

    # whatever the content

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=list(ODD_BODIES))
    async def test_any_body_is_kept_byte_for_byte(self, stores: Stores, body: bytes) -> None:
        await bury(stores, failed_event("dead", body=body), failed_event("neighbour"))
        await postpone(stores, failed_event("later", body=body), delay_seconds=0)

        letters = {letter.event_key: letter for letter in await stores.dead_letters.list(limit=10)}
        (delivery,) = await lease(stores)

        assert letters["dead"].body == body
        assert set(letters) == {"dead", "neighbour"}
        assert delivery.body == body

    async def test_any_headers_can_be_stored(self, stores: Stores) -> None:
        headers = {**ODD_HEADERS, "traceparent": "00-1"}
        await bury(stores, failed_event("dead", headers=headers))
        await postpone(stores, failed_event("later", headers=headers), delay_seconds=0)

        letter = await only_letter(stores)
        (delivery,) = await lease(stores)

        assert letter.headers["traceparent"] == delivery.headers["traceparent"] == "00-1"
        assert len(letter.headers) == len(delivery.headers) == len(headers)

    async def test_headers_may_be_nested_deeply(self, stores: Stores) -> None:
        nested: object = "bottom"
        for _ in range(64):
            nested = {"deeper": [nested]}
        await bury(stores, failed_event(headers={"nested": nested}))
        assert json.dumps((await only_letter(stores)).headers).count("deeper") == 64

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "ö" * 100_000, ""])
    async def test_reason_and_message_id_may_be_any_text(self, stores: Stores, text: str) -> None:
        await bury(stores, failed_event("dead", reason=text, message_id=text))
        await postpone(stores, failed_event("later", reason=text, message_id=text), delay_seconds=0)
        await only_letter(stores)
        assert len(await lease(stores)) == 1

    @pytest.mark.parametrize("text", ["a\0b", "\ud800"])
    async def test_a_routing_key_may_be_any_text(self, stores: Stores, text: str) -> None:
        delivery = Delivery(tag=1, routing_key=text, body=b"odd", message_id=text)
        event = malformed(delivery)
        await bury(stores, event)
        await postpone(stores, event, delay_seconds=0)
        await only_letter(stores)
        assert len(await lease(stores)) == 1

    async def test_a_retry_of_a_malformed_event_has_the_same_key(self, stores: Stores) -> None:
        event = malformed(Delivery(tag=1, routing_key="order.created", body=b"odd", message_id="m1"))
        await postpone(stores, event, delay_seconds=0)
        (delivery,) = await lease(stores)
        assert malformed(delivery).event_key == event.event_key

    async def test_nothing_to_set_aside_is_no_trouble(self, stores: Stores) -> None:
        await stores.failures.set_aside([], [])


def malformed(delivery: Delivery) -> FailedEvent:
    return FailedEvent.malformed(delivery, delivery.body, "not JSON")


async def lease(stores: Stores, *, limit: int = 100, lease_seconds: float = HOUR) -> Sequence[Delivery]:
    return await stores.failures.lease_due(limit, lease_seconds=lease_seconds)


async def only_letter(stores: Stores) -> DeadLetter:
    (letter,) = await stores.dead_letters.list(limit=10)
    return letter
