from hypothesis import given
from hypothesis import strategies as st

from service_kit.failures import FailedEvent, storable
from service_kit.message import Delivery

any_text = st.text(st.characters(exclude_categories=[]))


@given(any_text)
def test_storable_text_can_be_stored_and_stays_the_same(text: str) -> None:
    stored = storable(text)
    assert b"\0" not in stored.encode()
    assert storable(stored) == stored


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert storable(text) == text


@given(any_text, any_text, st.binary())
def test_any_delivery_can_be_named(routing_key: str, message_id: str, body: bytes) -> None:
    delivery = Delivery(tag=1, routing_key=routing_key, body=body, message_id=message_id)
    event = FailedEvent.malformed(delivery, body, "poison")
    assert event == FailedEvent.malformed(delivery, body, "poison")
    assert event.body == body


def test_two_messages_with_the_same_poison_have_different_names() -> None:
    one, two = (
        FailedEvent.malformed(Delivery(tag=1, routing_key="r", body=b"x", message_id=id), b"x", "poison")
        for id in "ab"
    )
    assert one.event_key != two.event_key
