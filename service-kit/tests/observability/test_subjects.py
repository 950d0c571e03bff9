import pytest

from service_kit.observability.subjects import about, in_traces, subject_in, traceparent_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_line_about_an_order_has_its_id_and_its_trace() -> None:
    assert about("order_id", "o-1", TRACEPARENT, attempt=2) == {
        "order_id": "o-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "attempt": 2,
    }


@pytest.mark.parametrize(
    "traceparent", [None, 7, b"00", "", "nonsense", TRACEPARENT.replace("00-", "ff-", 1)]
)
def test_what_is_not_known_is_left_out(traceparent: object) -> None:
    assert about("order_id", None, traceparent) == {}


def test_traces_of_subjects_are_known_within_their_block() -> None:
    with in_traces({"o-1": TRACEPARENT, "o-2": None}):
        assert [traceparent_of(name) for name in ("o-1", "o-2", "o-3")] == [TRACEPARENT, None, None]
    assert traceparent_of("o-1") is None


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        (b'{"order_id": "o-1"}', "o-1"),
        (b'{"order_id": 1}', None),
        (b"{}", None),
        (b"[1]", None),
        (b"not JSON", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{"order_id": "o-1", "items": [', "o-1"),
        (b'[{"order_id" :"a\\"b\\u0041"}, oops', 'a"bA'),
        (b'{"order_id": "o-1', None),
        (b'{"order_id": "", oops', None),
        (b'{"order_id": "\xff", oops', None),
        (b'{"order_id": "\\x", oops', None),
        (b'{"other": "order_id", oops', None),
        (b'{"order_id": "' + b"x" * 5_000 + b'", oops', None),
    ],
)
def test_the_subject_of_a_payload_is_found_or_not_without_an_error(
    payload: bytes, subject: str | None
) -> None:
    assert subject_in(payload, "order_id") == subject
