import pytest

from service_kit.announcing import Announcing
from service_kit.broker import PublishOutcome
from service_kit.errors import BrokerUnavailable
from service_kit.message import Message
from service_kit.testing.fakes_broker import FakePublisher

CONFIRMED, REFUSED, UNROUTABLE = PublishOutcome.CONFIRMED, PublishOutcome.REFUSED, PublishOutcome.UNROUTABLE
MESSAGES = [
    Message(routing_key=routing_key, body=b"{}", message_id=str(number))
    for number, routing_key in enumerate(["announced", "ordinary", "announced"])
]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([CONFIRMED, CONFIRMED, CONFIRMED], [CONFIRMED, CONFIRMED, CONFIRMED]),
        ([UNROUTABLE, CONFIRMED, CONFIRMED], [CONFIRMED, CONFIRMED, CONFIRMED]),
        ([UNROUTABLE, UNROUTABLE, UNROUTABLE], [CONFIRMED, UNROUTABLE, CONFIRMED]),
        ([REFUSED, UNROUTABLE, UNROUTABLE], [REFUSED, UNROUTABLE, CONFIRMED]),
    ],
)
async def test_without_a_queue_an_event_that_needs_no_reader_is_published_and_no_other(
    said: list[PublishOutcome], heard: list[PublishOutcome]
) -> None:
    outcomes = dict(zip((message.message_id for message in MESSAGES), said, strict=True))
    publisher = FakePublisher(lambda message: outcomes[message.message_id])

    assert [*await Announcing(publisher, {"announced"}).publish(MESSAGES)] == heard


async def test_while_the_broker_is_away_it_waits_as_any_other() -> None:
    publisher = FakePublisher()
    publisher.up.clear()

    with pytest.raises(BrokerUnavailable):
        await Announcing(publisher, {"announced"}).publish(MESSAGES)
