from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service_kit.http.problems import Problem
from service_kit.http.routing import RouteTable


def answering(word: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(word)

    return answer


ONE = Route("/orders/{order_id}", answering("one"), methods=["GET"])
CANCEL = Route("/orders/{order_id}", answering("cancel"), methods=["DELETE"])
STATISTICS = Route("/orders/statistics", answering("statistics"), methods=["GET"])
TABLE = RouteTable([ONE, CANCEL, STATISTICS])


def asking(method: str, path: str) -> dict[str, object]:
    return {"type": "http", "method": method, "path": path, "headers": []}


def test_a_path_without_parameters_is_found_before_one_with_some() -> None:
    assert TABLE.find(asking("GET", "/orders/statistics")) is STATISTICS
    assert TABLE.find(asking("DELETE", "/orders/statistics")) is CANCEL


def test_what_was_found_is_noted_with_what_the_path_holds() -> None:
    scope = asking("GET", "/orders/o-1")

    assert TABLE.find(scope) is ONE
    assert (scope["route"], scope["path_params"]) == (ONE, {"order_id": "o-1"})


def test_who_may_get_may_ask_for_the_head_alone() -> None:
    assert TABLE.find(asking("HEAD", "/orders/statistics")) is STATISTICS
    assert TABLE.find(asking("HEAD", "/orders/o-1")) is ONE


def test_a_wrong_method_is_counted_by_the_route_of_its_path() -> None:
    scope = asking("PUT", "/orders/o-1")

    with pytest.raises(Problem) as caught:
        TABLE.find(scope)

    assert (caught.value.status, caught.value.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert scope["route"] is ONE


def test_a_path_without_a_route_is_a_problem_404() -> None:
    scope = asking("GET", "/customers")

    with pytest.raises(Problem) as caught:
        TABLE.find(scope)

    assert caught.value.status == 404
    assert "route" not in scope
