import json
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from service_kit.message import Message
from service_kit.outbox import OutboxRow
from service_kit.relay import RelaySettings, pack


def rows(*event_types: str, payload: bytes = b"{}") -> list[OutboxRow]:
    return [row(id, event_type, payload) for id, event_type in enumerate(event_types)]


def row(id: int, event_type: str, payload: bytes = b"{}") -> OutboxRow:
    return OutboxRow(
        id=id,
        event_type=event_type,
        payload=payload,
        message_id=f"message {id}",
        traceparent=f"trace {id}",
        attempts=0,
    )


def ids(parcels: Sequence[tuple[Message, Sequence[OutboxRow]]]) -> list[list[int]]:
    return [[row.id for row in contents] for _, contents in parcels]


def test_by_default_each_event_is_a_message_of_its_own() -> None:
    parcels = list(pack(rows("a", "a", "b"), RelaySettings()))
    assert sorted(ids(parcels)) == [[0], [1], [2]]
    assert [message.body for message, _ in parcels] == [b"{}"] * 3


def test_events_of_one_type_share_a_message_in_their_order() -> None:
    settings = RelaySettings(events_per_message=3)
    assert ids(list(pack(rows("a", "b", "a", "a", "b", "a"), settings))) == [[0, 2, 3], [5], [1, 4]]


def test_an_array_has_the_id_and_trace_of_its_first_event() -> None:
    ((message, _),) = pack(rows("a", "a"), RelaySettings(events_per_message=10))
    assert message.body == b"[{},{}]"
    assert message.message_id == "message 0"
    assert message.headers == {"traceparent": "trace 0"}


def test_one_event_is_never_wrapped_in_an_array() -> None:
    ((message, _),) = pack(rows("a"), RelaySettings(events_per_message=10))
    assert message.body == b"{}"


def test_an_array_ends_before_it_has_too_many_bytes() -> None:
    settings = RelaySettings(events_per_message=100, message_bytes_max=10)
    assert ids(list(pack(rows(*"aaaaa", payload=b"1234"), settings))) == [[0, 1], [2, 3], [4]]


def test_an_event_larger_than_an_array_may_be_goes_alone() -> None:
    settings = RelaySettings(events_per_message=100, message_bytes_max=10)
    large = row(1, "a", b"1" * 50)
    assert ids(list(pack([row(0, "a"), large, row(2, "a")], settings))) == [[0], [1], [2]]


def test_no_rows_are_no_messages() -> None:
    assert list(pack([], RelaySettings())) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40))),
    st.integers(1, 5),
    st.integers(1, 100),
)
def test_every_event_is_packed_once_in_the_order_of_its_type(
    contents: list[tuple[str, int]], events_per_message: int, message_bytes_max: int
) -> None:
    settings = RelaySettings(events_per_message=events_per_message, message_bytes_max=message_bytes_max)
    packed = [
        row(id, event_type, json.dumps({"id": id, "padding": "x" * size}).encode())
        for id, (event_type, size) in enumerate(contents)
    ]

    sent: dict[str, list[int]] = defaultdict(list)
    for message, inside in pack(packed, settings):
        body = json.loads(message.body)
        events = body if isinstance(body, list) else [body]
        sent[message.routing_key] += [event["id"] for event in events]
        assert [event["id"] for event in events] == [each.id for each in inside]
        assert len(inside) <= events_per_message
        assert len(inside) == 1 or sum(len(each.payload) for each in inside) <= message_bytes_max
        assert message.message_id == inside[0].message_id

    expected: dict[str, list[int]] = defaultdict(list)
    for each in packed:
        expected[each.event_type].append(each.id)
    assert sent == expected
