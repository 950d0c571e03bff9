"""What the client sends, how it reads answers, and when it asks again; over real HTTP."""

import inspect
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from order_processor_client import (
    AsyncOrderProcessorClient,
    ClientError,
    DeadLetterFilter,
    FieldError,
    Item,
    Misconfigured,
    NewOrder,
    OrderProcessorClient,
    ProblemError,
    UnexpectedAnswer,
    Unreachable,
    async_client,
    sync_client,
)
from order_processor_client.errors import Problem
from order_processor_client.retry import Attempts, poll_pauses, retry_after_seconds
from service_kit.testing.scripted_http import Answer, ScriptedServer

NEW = NewOrder(
    order_id="ord-1",
    customer_id="me",
    items=[Item(sku="gold", quantity=3, price=Decimal("0.1000000000000000055511"))],
)


def create(client: Any) -> Any:
    return client.orders.create(NEW)


def test_an_order_is_sent_and_read_with_exact_amounts(server: ScriptedServer, client: Any) -> None:
    body = Answer(body=b'{"order_id":"ord-1","customer_id":"me","status":"done","version":2,'
                       b'"total_amount":123456789012345678901234567890.1234,"fail_reason":null,'
                       b'"created_at":"2026-11-24T14:00:00.5Z","a newer field":1}', status=201)  # fmt: skip
    server.will_answer(body)

    created = client.ask(create)

    assert b'"price":0.1000000000000000055511}' in server.asked[0].body
    assert created.order.total_amount == Decimal("123456789012345678901234567890.1234")
    assert created.order.created_at == datetime(2026, 11, 24, 14, 0, 0, 500_000, tzinfo=UTC)
    assert created.order.final and not created.replayed


def test_who_asks_is_sent_with_every_request(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer({"paused": True}))

    client.ask(lambda client: client.order_service.pause_consuming("a test"), key="secret", operator="Анна")

    headers = server.asked[0].headers
    assert headers["authorization"] == "Bearer secret"
    assert headers["x-operator"].encode("latin-1").decode() == "Анна"
    assert server.asked[0].body == b'{"reason":"a test"}'


def test_another_operator_can_ask_on_the_same_connections(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer({"paused": True}))

    client.ask(lambda client: client.acting_as("boris").processor_service.pause_consuming("a test"))

    assert server.asked[0].headers["x-operator"] == "boris"


def test_key_and_urls_come_from_the_environment(
    server: ScriptedServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDER_PROCESSOR_URL", server.url + "/")
    monkeypatch.setenv("ORDER_PROCESSOR_KEY", "from the environment".replace(" ", "-"))
    server.will_answer(answer(order_body()))

    client.ask(lambda client: client.orders.get("ord-1"), url=None)

    assert server.asked[0].target == "/orders/ord-1"
    assert server.asked[0].headers["authorization"] == "Bearer from-the-environment"


def test_no_proxy_is_asked_for_this_machine(
    server: ScriptedServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.will_answer(answer(order_body()))

    assert client.ask(lambda client: client.orders.get("ord-1")).order_id == "ord-1"


@pytest.mark.parametrize(
    ("order_id", "target"),
    [
        ("a/b", "/orders/a%2Fb"),
        ("..", "/orders/%2E%2E"),
        ("50%?x=1#y", "/orders/50%25%3Fx%3D1%23y"),
        ("ж é", "/orders/%D0%B6%20%C3%A9"),
    ],
)
def test_an_id_never_leads_elsewhere(server: ScriptedServer, client: Any, order_id: str, target: str) -> None:
    server.will_answer(answer(order_body(order_id)))

    client.ask(lambda client: client.orders.get(order_id))

    assert server.asked[0].target == target


def test_an_order_is_sent_again_until_it_is_accepted(server: ScriptedServer, client: Any) -> None:
    refusals = [Answer(status=None), not_now(), problem(429, "TooMany"), Answer(status=502, body=b"<html>")]
    server.will_answer(*refusals, answer(order_body(), 201, idempotent_replayed="true"))

    told: list[ClientError] = []

    created = client.ask(create, on_retry=told.append)

    assert created.replayed
    assert [type(error) for error in told] == [Unreachable, ProblemError, ProblemError, ProblemError]
    assert len(server.asked) == 5 and len({asked.body for asked in server.asked}) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 500])
def test_a_refusal_is_final(server: ScriptedServer, client: Any, status: int) -> None:
    server.will_answer(problem(status, "OrderConflict", [{"loc": ["body", "items", 0], "msg": "is bad"}]))

    with pytest.raises(ProblemError) as raised:
        client.ask(create)

    assert len(server.asked) == 1
    assert (raised.value.status, raised.value.error_type) == (status, "OrderConflict")
    assert raised.value.errors == (FieldError(loc=("body", "items", 0), msg="is bad"),)
    assert str(raised.value) == "It is OrderConflict: items.0: is bad"


def test_what_may_not_be_repeated_is_sent_once(server: ScriptedServer, client: Any) -> None:
    server.will_answer(not_now())

    with pytest.raises(ProblemError):
        client.ask(lambda client: client.order_service.start_replay([1], "a test"))

    assert len(server.asked) == 1


def test_a_wait_longer_than_the_patience_is_not_begun(server: ScriptedServer, client: Any) -> None:
    server.will_answer(problem(503, "Unavailable", retry_after="3600"))

    with pytest.raises(ProblemError) as raised:
        client.ask(create, retry_seconds=60)

    assert raised.value.retry_after == 3600


def test_nobody_at_the_url_is_told_with_the_url(client: Any, server: ScriptedServer) -> None:
    server.close()

    with pytest.raises(Unreachable, match=server.url):
        client.ask(create, retry_seconds=0)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (Answer(body=b"<html>"), UnexpectedAnswer, "not of this API"),
        (Answer(body=b'{"order_id": 1}'), UnexpectedAnswer, "not of this API"),
        (Answer(status=301, headers={"location": "http://127.0.0.1:1/"}), UnexpectedAnswer, "status 301"),
        (Answer(status=404, body=b"<html>nothing"), ProblemError, "/orders/ord-1 answered 404"),
        (Answer(status=400, body=b"\xff"), ProblemError, "answered 400"),
    ],
)
def test_what_is_not_of_this_api_is_told(
    server: ScriptedServer, client: Any, response: Answer, error: type[ClientError], words: str
) -> None:
    server.will_answer(response)

    with pytest.raises(error, match=words):
        client.ask(lambda client: client.orders.get("ord-1"))


@pytest.mark.parametrize(
    "options",
    [
        {"url": "localhost:8000"},
        {"url": "ftp://localhost"},
        {"url": "http://[::1"},
        {"url": "http://"},
        {"processor_url": "http://localhost?x=1"},
        {"key": "two words"},
        {"key": "ключ"},
        {"key": "a\r\nhost: evil"},
        {"operator": "a\nb"},
        {"operator": "x" * 101},
    ],
)
def test_what_cannot_be_used_is_told_at_once(client: Any, options: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as raised:
        client.ask(create, **options)

    assert options.get("key", "no key") not in str(raised.value)


def test_a_list_is_read_page_by_page(server: ScriptedServer, client: Any) -> None:
    server.will_answer(
        answer({"data": [order_body("c"), order_body("b")], "has_more": True}),
        answer({"data": [order_body("a")], "has_more": False}),
    )
    since = datetime(2026, 11, 24, tzinfo=UTC)

    orders = client.ask(lambda client: client.orders.list(status="pending", created_from=since))

    assert [order.order_id for order in orders] == ["c", "b", "a"]
    first, second = (asked.target for asked in server.asked)
    assert "status=pending" in first and "created_from=2026-11-24T00%3A00%3A00%2B00%3A00" in first
    assert "starting_after=b" in second and "status=pending" in second


def test_dead_letters_are_asked_for_by_what_they_have_in_common(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer({"total": 3, "will_run": 1, "already_processed": 1, "will_fail_again": 1}))
    only = DeadLetterFilter(group="g1", since=datetime(2026, 11, 24, tzinfo=UTC))

    forecast = client.ask(lambda client: client.processor_service.forecast(only))

    assert server.asked[0].body == b'{"filter":{"group":"g1","since":"2026-11-24T00:00:00Z"}}'
    assert forecast.total == 3


def test_a_key_is_made_for_what_is_given(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer({"key": key_body(7), "secret": "ork_whole"}, 201))

    made = client.ask(
        lambda client: client.order_service.create_key(
            "shop", ["orders:read"], "a test", customers=["cust-1"], days=30
        )
    )

    assert msgspec.json.decode(server.asked[0].body) == {
        "name": "shop",
        "roles": ["orders:read"],
        "reason": "a test",
        "customers": ["cust-1"],
        "days": 30,
    }
    assert (made.key.id, made.key.state, made.secret) == (7, "usable", "ork_whole")


def test_a_key_of_all_customers_for_ever_says_nothing_of_either(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer({"key": key_body(7), "secret": "ork_whole"}, 201))

    client.ask(lambda client: client.processor_service.create_key("ops", ["admin"], "a test"))

    assert server.asked[0].body == b'{"name":"ops","roles":["admin"],"reason":"a test"}'


def test_a_key_that_may_have_been_made_is_not_made_twice(server: ScriptedServer, client: Any) -> None:
    server.will_answer(not_now())

    with pytest.raises(ProblemError):
        client.ask(lambda client: client.order_service.create_key("shop", ["orders:read"], "a test"))

    assert len(server.asked) == 1


def test_a_key_is_rotated_and_revoked_by_its_id(server: ScriptedServer, client: Any) -> None:
    server.will_answer(
        answer({"key": key_body(8, replaces=7), "secret": "ork_next"}, 201),
        answer(key_body(7, state="revoked")),
    )

    made = client.ask(lambda client: client.order_service.rotate_key(7, "yearly", overlap_hours=1.5))
    gone = client.ask(lambda client: client.order_service.revoke_key(7, "unused by now"))

    assert [asked.target for asked in server.asked] == ["/admin/keys/7/rotate", "/admin/keys/7/revoke"]
    assert server.asked[0].body == b'{"overlap_hours":1.5,"reason":"yearly"}'
    assert server.asked[1].body == b'{"reason":"unused by now"}'
    assert (made.key.replaces, made.secret, gone.state) == (7, "ork_next", "revoked")


def test_keys_are_read_page_by_page_and_from_where_one_wants(server: ScriptedServer, client: Any) -> None:
    server.will_answer(
        answer({"keys": [key_body(9), key_body(7)], "has_more": True}),
        answer({"keys": [key_body(3)], "has_more": False}),
        answer({"keys": [key_body(3)], "has_more": False}),
    )

    keys = client.ask(lambda client: client.order_service.keys(after=20))
    page = client.ask(lambda client: client.order_service.keys_page(limit=5, after=7))

    assert [key.id for key in keys] == [9, 7, 3] and [key.id for key in page.keys] == [3]
    first, second, third = (asked.target for asked in server.asked)
    assert "after=20" in first and "after=7" in second
    assert third == "/admin/keys?after=7&limit=5"


def test_many_orders_are_sent_in_parts_and_counted_through(server: ScriptedServer, client: Any) -> None:
    server.will_answer(results(*[created(number) for number in range(1000)]), results(created(0)))

    told = client.ask(lambda client: client.orders.bulk(NEW for _ in range(1001)))

    assert [result.index for result in told] == list(range(1001))
    assert [asked.body.count(b"\n") for asked in server.asked] == [1000, 1]
    assert server.asked[0].headers["content-type"] == "application/x-ndjson"


def test_what_is_no_order_keeps_its_place_among_many(server: ScriptedServer, client: Any) -> None:
    refused = {"status": 400, "problem": {"status": 400, "error_type": "ValidationError", "detail": "No."}}
    server.will_answer(results(refused | {"index": 0}, refused | {"index": 1}, created(2)))

    told = client.ask(lambda client: client.orders.bulk([b" [1,\n2]", b'{"a":\r\n1}', b" \n", NEW]))

    assert server.asked[0].body.splitlines()[:2] == [b"null", b'{"a":  1}']
    assert [str(result.problem) for result in told[:2]] == ["No.", "No."] and told[2].order


def test_a_part_is_sent_again_when_some_of_it_came_too_soon(server: ScriptedServer, client: Any) -> None:
    later = {"status": 503, "problem": {"status": 503, "error_type": "Unavailable"}, "index": 1}
    server.will_answer(results(created(0), later), results(created(0) | {"replayed": True}, created(1)))

    told = client.ask(lambda client: client.orders.bulk([NEW, NEW]))

    assert [result.replayed for result in told] == [True, False]


def test_an_answer_for_another_number_of_orders_is_told(server: ScriptedServer, client: Any) -> None:
    server.will_answer(results(created(0)))

    with pytest.raises(UnexpectedAnswer, match="1 results of 2 orders"):
        client.ask(lambda client: client.orders.bulk([NEW, NEW]))


def test_an_order_is_watched_until_it_is_final(server: ScriptedServer, client: Any) -> None:
    pending, done = answer(order_body()), answer(order_body(status="done", version=2))
    server.will_answer(pending, pending, pending, done)

    seen = client.ask(lambda client: client.orders.watch("ord-1"))

    assert [order.status for order in seen] == ["pending", "done"]
    assert client.ask(lambda client: client.orders.wait("ord-1")).status == "done"


def test_waiting_ends_with_the_time(server: ScriptedServer, client: Any) -> None:
    server.will_answer(answer(order_body()))

    assert client.ask(lambda client: client.orders.wait("ord-1", within_seconds=0.1)).status == "pending"


def test_what_is_not_ready_says_so_and_is_no_error(server: ScriptedServer, client: Any) -> None:
    checks = {"database": {"ok": False, "detail": "gone"}}
    server.will_answer(answer({"service": "order-service", "status": "not ready", "checks": checks}, 503))

    readiness = client.ask(lambda client: client.order_service.readiness())

    assert readiness.checks["database"].detail == "gone"


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [
        (OrderProcessorClient, AsyncOrderProcessorClient),
        (sync_client.Orders, async_client.AsyncOrders),
        (sync_client.OrderServiceAdmin, async_client.AsyncOrderServiceAdmin),
        (sync_client.ProcessorServiceAdmin, async_client.AsyncProcessorServiceAdmin),
    ],
)
def test_both_clients_have_the_same_methods(blocking: type, awaited: type) -> None:
    assert methods(blocking) == methods(awaited)


def test_pauses_grow_and_are_never_shorter_than_asked_for() -> None:
    attempts = Attempts(repeatable=True, within_seconds=3600)
    pauses = [attempts.pause_after(Unreachable("http://x", "gone")) for _ in range(10)]

    assert 0.05 <= pauses[0] <= 0.1 and 2.5 <= pauses[-1] <= 5.0

    busy = ProblemError(Problem(status=503, error_type="Unavailable"), retry_after=7.0)
    assert 7.0 < attempts.pause_after(busy) <= 12.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("2", 2.0), ("-1", 0.0), ("nan", 0.0), ("soon", None)],
)
def test_a_retry_after_that_says_nothing_is_passed_over(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds


def test_a_retry_after_may_be_a_date() -> None:
    assert retry_after_seconds("Fri, 01 Jan 2100 00:00:00 GMT") > 60  # type: ignore[operator]
    assert retry_after_seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_the_last_look_is_at_the_end_of_the_time() -> None:
    assert list(poll_pauses(0)) == [0.0]


def order_body(order_id: str = "ord-1", **changes: object) -> dict[str, object]:
    return {
        "order_id": order_id,
        "customer_id": "me",
        "status": "pending",
        "total_amount": 12,
        "version": 1,
        "fail_reason": None,
        "created_at": "2026-11-24T14:00:00Z",
        **changes,
    }


def key_body(key_id: int, **changes: object) -> dict[str, object]:
    return {
        "id": key_id,
        "hint": "ork_7Gd1",
        "name": "shop",
        "roles": ["orders:read"],
        "customers": None,
        "state": "usable",
        "created_at": "2026-11-24T14:00:00Z",
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
        "replaces": None,
        **changes,
    }


def answer(document: object, status: int = 200, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=msgspec.json.encode(document), headers=names)


def created(index: int) -> dict[str, object]:
    return {"index": index, "status": 201, "order": order_body()}


def results(*lines: object) -> Answer:
    return Answer(body=b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def problem(status: int, error_type: str, errors: Sequence[object] = (), **headers: str) -> Answer:
    document = {
        "status": status,
        "error_type": error_type,
        "detail": f"It is {error_type}.",
        "errors": errors,
    }
    return answer(document, status, **headers)


def methods(kind: type) -> dict[str, list[str]]:
    """The public methods of a class, and the names of their parameters."""
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def not_now() -> Answer:
    return problem(503, "Unavailable", retry_after="0")
