from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service_kit.http.problems import Problem
from service_kit.http.query import read_query
from service_kit.http.server import HttpServer

Serve = Callable[..., Awaitable[HttpServer]]


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a number") from None


READERS: dict[str, Callable[[str], Any]] = {"name": str, "limit": number}


def read(query: bytes) -> dict[str, Any]:
    return read_query({"query_string": query}, READERS)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"", {}),
        (b"limit=5", {"limit": 5}),
        (b"limit=5&name=a+b%20c", {"limit": 5, "name": "a b c"}),
        ("name=заказ".encode(), {"name": "заказ"}),
        (b"name=%D0%B7", {"name": "з"}),
        (b"name=", {"name": ""}),
        (b"name=a%26b%3Dc", {"name": "a&b=c"}),
        (b"%6Eame=x", {"name": "x"}),
    ],
)
def test_what_is_given_is_read_by_its_reader(query: bytes, values: dict[str, Any]) -> None:
    assert read(query) == values


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        (b"limit=many", [(("query", "limit"), "must be a number")]),
        (b"limit=1&limit=1", [(("query", "limit"), "is given more than once")]),
        (b"colour=red", [(("query", "colour"), "is not a known parameter")]),
        (b"Limit=1", [(("query", "Limit"), "is not a known parameter")]),
        (
            b"colour=red&limit=x",
            [(("query", "colour"), "is not a known parameter"), (("query", "limit"), "must be a number")],
        ),
        (b"limit", [(("query",), "is not readable: bad query field: 'limit'")]),
        (b"&", [(("query",), "is not readable: bad query field: ''")]),
    ],
)
def test_each_fault_is_told_with_its_place(query: bytes, faults: list[tuple[tuple[str, ...], str]]) -> None:
    with pytest.raises(Problem) as raised:
        read(query)

    assert (raised.value.status, raised.value.error_type) == (400, "ValidationError")
    assert [(error.loc, error.msg) for error in raised.value.errors] == faults


@pytest.mark.parametrize("query", [b"name=%FF", b"name=\xff", b"name=%ED%A0%80", b"%FF=1"])
def test_what_is_no_utf_8_is_not_read_as_something_else(query: bytes) -> None:
    with pytest.raises(Problem, match="not UTF-8"):
        read(query)


def test_more_parameters_than_anybody_needs_are_not_even_looked_at() -> None:
    with pytest.raises(Problem, match="not valid"):
        read(b"&".join(b"name=%d" % index for index in range(101)))


async def test_a_bad_query_is_a_problem(serve: Serve) -> None:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(read_query(request.scope, READERS))

    server = await serve([Route("/", endpoint)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        good, bad = await client.get("/?limit=3"), await client.get("/?limit=x")

    assert (good.status_code, good.json()) == (200, {"limit": 3})
    assert (bad.status_code, bad.json()["errors"]) == (
        400,
        [{"loc": ["query", "limit"], "msg": "must be a number"}],
    )
