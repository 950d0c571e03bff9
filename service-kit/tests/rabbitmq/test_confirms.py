"""Which message a confirm speaks of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.message import Message
from service_kit.rabbitmq.confirms import Batch, Confirms
from service_kit.rabbitmq.frame_parser import Confirmed, Returned

CONFIRMED, REFUSED, UNROUTABLE = PublishOutcome.CONFIRMED, PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE


def message(message_id: str, routing_key: str = "key") -> Message:
    return Message(routing_key=routing_key, body=b"", message_id=message_id)


def expect(confirms: Confirms, *ids: str) -> Batch:
    return confirms.expect([message(each) for each in ids])


async def test_confirms_come_singly_in_any_order() -> None:
    confirms = Confirms()
    batch = expect(confirms, "1", "2", "3")
    for tag in (3, 1):
        confirms.confirmed(Confirmed(tag, False, True))
        assert not batch.settled.done()
    confirms.confirmed(Confirmed(2, False, True))
    assert batch.settled.done()
    assert batch.outcomes == [CONFIRMED] * 3
    assert confirms.pending() == []


async def test_one_confirm_covers_several_batches() -> None:
    confirms = Confirms()
    one, two, three = expect(confirms, "1", "2"), expect(confirms, "3"), expect(confirms, "4", "5")
    confirms.confirmed(Confirmed(4, True, True))
    assert one.settled.done()
    assert two.settled.done()
    assert not three.settled.done()
    assert three.outcomes == [CONFIRMED, None]


async def test_a_refusal_is_not_overruled_by_a_later_confirm() -> None:
    confirms = Confirms()
    batch = expect(confirms, "1", "2", "3")
    confirms.confirmed(Confirmed(2, False, False))
    confirms.confirmed(Confirmed(3, True, True))
    assert batch.outcomes == [CONFIRMED, REFUSED, CONFIRMED]


async def test_a_returned_message_is_unroutable_when_its_confirm_comes() -> None:
    confirms = Confirms()
    batch = expect(confirms, "1", "2", "3")
    confirms.returned(Returned("key", "2"))
    assert batch.outcomes == [None] * 3
    confirms.confirmed(Confirmed(3, True, True))
    assert batch.outcomes == [CONFIRMED, UNROUTABLE, CONFIRMED]


async def test_returns_are_told_apart_by_id_and_routing_key() -> None:
    confirms = Confirms()
    batch = confirms.expect([message("1", "here"), message("1", "nowhere"), message("1", "nowhere")])
    confirms.returned(Returned("nowhere", "1"))
    confirms.returned(Returned("nowhere", "1"))
    confirms.confirmed(Confirmed(3, True, True))
    assert batch.outcomes == [CONFIRMED, UNROUTABLE, UNROUTABLE]


async def test_a_return_of_something_unknown_is_ignored() -> None:
    confirms = Confirms()
    batch = expect(confirms, "1")
    confirms.returned(Returned("key", "other"))
    confirms.confirmed(Confirmed(9, False, True))
    confirms.confirmed(Confirmed(1, False, True))
    assert batch.outcomes == [CONFIRMED]


async def test_a_cancelled_batch_is_still_accounted_for() -> None:
    confirms = Confirms()
    cancelled, batch = expect(confirms, "1", "2"), expect(confirms, "3")
    cancelled.settled.cancel()
    confirms.confirmed(Confirmed(1, False, True))
    confirms.confirmed(Confirmed(3, True, False))
    assert batch.outcomes == [REFUSED]
    assert confirms.pending() == []


async def test_a_failure_ends_everything_unsettled() -> None:
    confirms = Confirms()
    done, cancelled, open_ = expect(confirms, "1"), expect(confirms, "2"), expect(confirms, "3")
    confirms.confirmed(Confirmed(1, False, True))
    cancelled.settled.cancel()
    confirms.fail(BrokerUnavailable("gone"))
    assert done.outcomes == [CONFIRMED]
    with pytest.raises(BrokerUnavailable, match="gone"):
        await open_.settled


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
async def test_every_message_gets_exactly_its_own_word(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    confirms = Confirms()
    batches = [
        expect(confirms, *[f"{number}.{each}" for each in range(size)]) for number, size in enumerate(sizes)
    ]
    expected: dict[int, PublishOutcome] = {}
    ids = [each.message_id for batch in batches for each in batch.messages]
    returned = data.draw(st.sets(st.integers(1, len(ids))))
    for tag in sorted(returned):
        confirms.returned(Returned("key", ids[tag - 1]))
    open_tags = set(range(1, len(ids) + 1))
    while open_tags:
        tag = data.draw(st.sampled_from(sorted(open_tags)))
        multiple, accepted = data.draw(st.booleans()), data.draw(st.booleans())
        confirms.confirmed(Confirmed(tag, multiple, accepted))
        for each in {each for each in open_tags if each == tag or (multiple and each < tag)}:
            outcome = CONFIRMED if accepted else REFUSED
            expected[each] = UNROUTABLE if each in returned else outcome
            open_tags.discard(each)
    assert [outcome for batch in batches for outcome in batch.outcomes] == [
        expected[tag] for tag in sorted(expected)
    ]
    assert all(batch.settled.done() for batch in batches)
    assert confirms.pending() == []
