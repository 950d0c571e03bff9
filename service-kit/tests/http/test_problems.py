from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from service_kit.http.problems import FieldError, Problem
from service_kit.http.server import HttpServer

Serve = Callable[..., Awaitable[HttpServer]]
Raw = Callable[[HttpServer, bytes], Awaitable[bytes]]


def raising(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        raise error

    return endpoint


async def hello(_: Request) -> Response:
    return Response(b"hello")


async def test_a_problem_is_answered_with_everything_that_the_contract_names(serve: Serve) -> None:
    conflict = Problem(409, "OrderConflict", "The order o-1 exists with other content.")
    server = await serve([Route("/orders/{order_id}", raising(conflict))])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/orders/o%201?x=y")

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json() == {
        "type": "urn:order-processor:problem:OrderConflict",
        "title": "Order conflict",
        "status": 409,
        "detail": "The order o-1 exists with other content.",
        "instance": "/orders/o%201",
        "error_type": "OrderConflict",
    }


async def test_a_validation_problem_says_where_and_what(serve: Serve) -> None:
    error = FieldError(loc=("body", "items", 0, "sku"), msg="must not be empty")
    server = await serve(
        [Route("/", raising(Problem(400, "ValidationError", "Not an order.", errors=[error])))]
    )

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/")

    assert answer.json()["errors"] == [{"loc": ["body", "items", 0, "sku"], "msg": "must not be empty"}]


async def test_a_problem_may_tell_more_of_its_own_kind(serve: Serve) -> None:
    late = Problem(409, "OrderNotCancellable", "It is done.", members={"order_status": "done"})
    server = await serve([Route("/", raising(late))])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = (await client.get("/")).json()

    assert (answer["status"], answer["error_type"], answer["order_status"]) == (
        409,
        "OrderNotCancellable",
        "done",
    )
    assert "errors" not in answer


async def test_overload_says_when_to_come_again(serve: Serve) -> None:
    overload = Problem(503, "Overloaded", "Too many orders at once.", retry_after_seconds=2)
    server = await serve([Route("/", raising(overload))])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_text_without_a_utf8_form_does_not_break_the_answer(serve: Serve) -> None:
    error = FieldError(loc=("body", "\ud800"), msg="unknown field \udfff")
    server = await serve([Route("/", raising(Problem(400, "ValidationError", "\ud800", errors=[error])))])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/")

    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"loc": ["body", "\\ud800"], "msg": "unknown field \\udfff"}]


async def test_an_unexpected_error_is_logged_once_and_tells_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve([Route("/", raising(ValueError("the password is hunter2")))])

    with capture_logs() as lines:
        async with httpx.AsyncClient(base_url=server.url) as client:
            answer = await client.get("/")

    assert (answer.status_code, answer.json()["error_type"]) == (500, "InternalServerError")
    assert "hunter2" not in answer.text
    assert [line["event"] for line in lines] == ["request_failed"]
    assert caplog.records == []


async def test_an_unknown_path_is_a_problem_404(serve: Serve) -> None:
    server = await serve([Route("/orders", hello)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answers = [await client.get(path) for path in ("/", "/order", "/orders/", "//orders", "/orders%2F")]

    assert [(answer.status_code, answer.json()["error_type"]) for answer in answers] == [
        (404, "NotFound")
    ] * 5


async def test_a_wrong_method_is_a_problem_405_that_allows_all_methods_of_the_path(serve: Serve) -> None:
    server = await serve([Route("/orders", hello, methods=["POST"]), Route("/orders", hello)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.delete("/orders")

    assert (answer.status_code, answer.json()["error_type"]) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path", ["/orders/%FF", "/orders/%ED%A0%80", "/orders/a%00b", "/orders/%7F", "/orders/%0a"]
)
async def test_a_path_that_is_no_text_is_a_problem_400(serve: Serve, raw: Raw, path: str) -> None:
    server = await serve([Route("/orders/{order_id}", hello)])

    answer = await raw(server, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


async def test_a_percent_sign_or_any_script_in_a_path_is_text(serve: Serve) -> None:
    async def echo(request: Request) -> Response:
        return Response(request.path_params["order_id"])

    server = await serve([Route("/orders/{order_id}", echo)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        answers = [
            await client.get(f"/orders/{path}") for path in ("100%25", "%D0%B7%D0%B0%D0%BA%D0%B0%D0%B7")
        ]

    assert [answer.text for answer in answers] == ["100%", "заказ"]


async def test_an_error_in_the_middle_of_an_answer_cuts_the_connection(serve: Serve) -> None:
    async def half(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError

        return StreamingResponse(parts())

    server = await serve([Route("/", half)])

    async with httpx.AsyncClient(base_url=server.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
