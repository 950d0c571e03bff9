import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.events import Malformed, split_events
from service_kit.message import MESSAGE_BYTES_MAX, Delivery

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def split(body: bytes) -> list[bytes | Malformed]:
    return list(split_events(Delivery(tag=1, routing_key="order.created", body=body)))


def test_an_object_is_one_event_as_it_is() -> None:
    assert split(b' {"a": 1}\n') == [b' {"a": 1}\n']


def test_an_array_is_its_elements() -> None:
    assert split(b' [ {"a": [1]} , 2,\n"x" ] ') == [b'{"a": [1]}', b"2", b'"x"']


def test_an_empty_array_is_malformed_so_that_it_does_not_go_silently() -> None:
    assert split(b"[]") == [Malformed(b"[]", "an array without any event")]


@pytest.mark.parametrize(
    "body",
    [b"[", b"[1,", b"[1] x", b"[1 2]", b"[\xff]", b'["\xff"', b"[" * 100_000, b"\xef\xbb\xbf[1", b"[NaN]"],
)
def test_what_looks_like_an_array_and_is_none_is_malformed_or_left_to_the_decoder(body: bytes) -> None:
    (event,) = split(body)
    if isinstance(event, Malformed):
        assert event.body == body
        assert event.reason
    else:
        assert event == body


def test_a_message_of_the_largest_size_is_read_and_a_larger_one_is_not() -> None:
    largest = b"x" * MESSAGE_BYTES_MAX
    assert split(largest) == [largest]
    (malformed,) = split(largest + b"x")
    assert isinstance(malformed, Malformed)
    assert malformed.body == largest + b"x"


@given(st.binary() | st.binary().map(lambda body: b"[" + body) | st.text().map(str.encode))
def test_splitting_never_raises_and_never_loses_a_malformed_byte(body: bytes) -> None:
    for event in split(body):
        if isinstance(event, Malformed):
            assert event.body == body


@given(st.lists(json_values), st.sampled_from([None, 1]))
def test_every_element_of_an_array_comes_out_as_it_went_in(values: list[object], indent: int | None) -> None:
    events = split(json.dumps(values, indent=indent).encode())
    assert [json.loads(event) for event in events if isinstance(event, bytes)] == values
