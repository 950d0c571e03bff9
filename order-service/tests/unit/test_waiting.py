"""How long a client wishes to wait."""

import pytest
from starlette.requests import Request

from order_service.api.waiting import NO_WAIT, Wait, asked_wait
from service_kit.http.problems import Problem


def asked(query: bytes = b"", prefer: str | None = None) -> Wait:
    return asked_wait(Request({"type": "http", "query_string": query, "headers": []}), prefer)


@pytest.mark.parametrize(
    ("query", "seconds"), [(b"wait=5", 5), (b"wait=0", 0), (b"wait=30", 30), (b"wait=05", 5)]
)
def test_the_query_is_taken_at_its_word(query: bytes, seconds: int) -> None:
    assert asked(query) == Wait(seconds)
    assert asked(query, "wait=7") == Wait(seconds)


@pytest.mark.parametrize(
    "query",
    [b"wait=31", b"wait=-1", b"wait=1.5", b"wait=", b"wait", b"wait=x", b"wait=1&wait=1", b"wait=%D9%A3"],
)
def test_a_query_that_cannot_be_meant_is_refused(query: bytes) -> None:
    with pytest.raises(Problem) as raised:
        asked(query)

    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=5", 5),
        ("Wait=5", 5),
        ('wait="5"', 5),
        ("wait = 5", 5),
        ("respond-async, wait=10", 10),
        ("wait=10;foo=bar, respond-async", 10),
        ("wait=3, wait=7", 3),
        ("wait=600", 30),
        ("wait=999999999", 30),
        ("wait=0", 0),
    ],
)
def test_a_preference_is_honoured_as_far_as_it_goes(prefer: str, seconds: int) -> None:
    assert asked(prefer=prefer) == Wait(seconds, preferred=True)


@pytest.mark.parametrize(
    "prefer", ["", "respond-async", "wait", "wait=", "wait=x", "wait=-5", "await=5", "wait=5s"]
)
def test_a_preference_that_cannot_be_read_is_none(prefer: str) -> None:
    assert asked(prefer=prefer) == NO_WAIT
