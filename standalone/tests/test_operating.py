"""The command against both services as they are: real HTTP, real PostgreSQL, a process for each command."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from order_processor_client import AsyncOrderProcessorClient, Item, NewOrder
from order_processor_client.admin_models import Replay
from service_kit.failures import FailedEvent
from service_kit.message import Delivery
from service_kit.testing.eventually import eventually
from service_kit.testing.hostile_receiver import hostile_receiver

Run = Callable[..., Awaitable[Any]]
Client = AsyncOrderProcessorClient

WHY = ("--reason", "a test")
PROCESSOR = ("--service", "processor")


def order(order_id: str, sku: str = "laptop", price: object = 10) -> dict[str, object]:
    return {"order_id": order_id, "customer_id": "me", "items": [{"sku": sku, "quantity": 1, "price": price}]}


def lines(*orders: object) -> bytes:
    return b"".join(msgspec.json.encode(one) + b"\n" for one in orders)


async def poison(dsn: str, *bodies: bytes) -> None:
    """Dead letters as a consumer leaves them, of events in any state."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO dead_letter_queue"
            " (source, event_key, original_event_type, body, failure_reason, attempts)"
            " VALUES ('consumer', $1, 'order.created', $2, 'it was a test', 1)",
            [(key_of(body), body) for body in bodies],
        )
    finally:
        await connection.close()


def key_of(body: bytes) -> str:
    try:
        event = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return FailedEvent.malformed(
            Delivery(tag=0, routing_key="order.created", body=body), body, ""
        ).event_key
    return f"order.created:{event['order_id']}:{event['version']}"


def good(number: int) -> bytes:
    return msgspec.json.encode(order(f"again-{number}") | {"amount": 10, "version": 1})


# orders


async def test_one_order_is_submitted_watched_and_shown(operate: Run) -> None:
    submitted = await operate(
        "orders",
        "submit",
        "--id",
        "ord:1",
        "--customer",
        "me",
        "--item",
        "a:b:2:12.50",
        "--item",
        "teapot:1:1",
    )
    assert submitted.code == 0 and "ord:1" in submitted.output

    watched = await operate("orders", "watch", "ord:1", "--json")
    assert watched.code == 1  # it failed
    assert watched.json["fail_reason"] == "No teapots" and watched.json["total_amount"] == 26

    shown = await operate("orders", "show", "ord:1")
    assert shown.code == 0 and "No teapots" in shown.output and "a:b" in shown.output

    again = await operate(
        "orders",
        "submit",
        "--id",
        "ord:1",
        "--customer",
        "me",
        "--item",
        "a:b:2:12.5",
        "--item",
        "teapot:1:1",
    )
    assert again.code == 0 and "there already" in again.errors
    other = await operate("orders", "submit", "--id", "ord:1", "--customer", "you", "--item", "a:1:1")
    assert other.code == 4 and "exists with other content" in other.errors
    nobody = await operate("orders", "show", "nobody")
    assert (nobody.code, nobody.output) == (4, "") and nobody.errors.count("\n") == 1


@pytest.mark.parametrize("form", ["lines", "array", "pretty"])
async def test_many_orders_come_from_a_file_in_any_form(operate: Run, tmp_path: Path, form: str) -> None:
    orders = [order("a"), order("b", price=-1), order("c"), order("a")]
    documents = {
        "lines": b"\xef\xbb\xbf\n" + lines(*orders[:2]) + b"\r\n" + lines(*orders[2:]),
        "array": msgspec.json.encode(orders),
        "pretty": msgspec.json.format(msgspec.json.encode(orders)),
    }
    file = tmp_path / "orders"
    file.write_bytes(documents[form])

    told = await operate("orders", "submit", file, "--json")

    assert [(result["index"], result["status"]) for result in told.json_lines] == [
        (0, 201),
        (1, 400),
        (2, 201),
        (3, 201),
    ]
    assert told.code == 1

    again = await operate("orders", "submit", "-", stdin=documents[form])
    assert "0 orders accepted, 3 there already, 1 refused" in again.output
    assert "must be greater than 0" in again.output


async def test_a_single_order_in_a_file_is_answered_as_one(operate: Run) -> None:
    told = await operate(
        "orders", "submit", "-", "--json", stdin=b'{"order_id": "one",\n"customer_id": "me"}'
    )

    assert told.code == 1 and "items: is required" in told.errors

    pretty = msgspec.json.format(msgspec.json.encode(order("one", price=0.1)))
    told = await operate("orders", "submit", "-", "--json", stdin=pretty)
    assert told.code == 0 and told.json["order_id"] == "one"


async def test_more_orders_than_fit_in_a_request_are_submitted_in_their_order(operate: Run) -> None:
    told = await operate(
        "orders", "submit", "-", "--json", stdin=lines(*(order(f"o-{n}") for n in range(2500)))
    )

    assert told.code == 0
    assert [result["order"]["order_id"] for result in told.json_lines] == [f"o-{n}" for n in range(2500)]
    assert [result["index"] for result in told.json_lines] == list(range(2500))


async def test_orders_are_listed_by_what_is_asked_for(operate: Run, client: Client) -> None:
    for number in range(5):
        sku = "teapot" if number == 2 else "laptop"
        item = Item(sku=sku, quantity=1, price=10)  # type: ignore[arg-type]
        await client.orders.create(
            NewOrder(order_id=f"o-{number}", customer_id=f"c-{number % 2}", items=[item])
        )
    for number in range(5):
        assert (await client.orders.wait(f"o-{number}")).final

    async def listed(*options: str) -> list[str]:
        return [one["order_id"] for one in (await operate("orders", "list", "--json", *options)).json_lines]

    assert await listed() == ["o-4", "o-3", "o-2", "o-1", "o-0"]
    assert await listed("--customer", "c-1") == ["o-3", "o-1"]
    assert await listed("--status", "failed") == ["o-2"]
    assert await listed("--since", "1h", "--limit", "2") == ["o-4", "o-3"]
    assert await listed("--until", "1h") == []
    assert await listed("--after", "o-2") == ["o-1", "o-0"]
    table = await operate("orders", "list", "--limit", "2")
    assert "o-4" in table.output and "o-2" not in table.output and "--after o-3" in table.errors
    assert (await operate("orders", "list", "--customer", "nobody")).output == "no orders\n"


async def test_an_order_is_cancelled_while_it_is_pending(operate: Run, client: Client) -> None:
    await client.processor_service.pause_consuming("a test")
    await operate("orders", "submit", "-", stdin=lines(order("a")))

    cancelled = await operate("orders", "cancel", "a", *WHY, "--json")
    assert cancelled.code == 0 and cancelled.json["status"] == "cancelled"
    watched = await operate("orders", "watch", "a")
    assert watched.code == 1 and "cancelled" in watched.output

    await client.processor_service.resume_consuming("a test")
    await operate("orders", "submit", "-", stdin=lines(order("b")))
    assert (await client.orders.wait("b")).status == "done"
    too_late = await operate("orders", "cancel", "b")
    assert too_late.code == 4 and too_late.errors.count("\n") == 1


async def test_watching_ends_with_its_time(operate: Run, client: Client) -> None:
    await client.processor_service.pause_consuming("a test")
    await operate("orders", "submit", "-", stdin=lines(order("a")))

    watched = await operate("orders", "watch", "a", "--timeout", "0.1")

    assert watched.code == 3 and "still pending" in watched.errors


async def test_the_timeline_tells_the_whole_way(operate: Run, client: Client) -> None:
    await operate("orders", "submit", "-", stdin=lines(order("a", sku="teapot")))
    await client.orders.wait("a")
    await eventually(lambda: _complete(client, "a"))

    shown = await operate("orders", "show", "a", "--timeline")

    for words in ("accepted", "published", "received", "decided", "applied", "teapot", "No teapots"):
        assert words in shown.output
    told = await operate("orders", "show", "a", "--timeline", "--json")
    assert told.json["complete"] and told.json["order"]["order_id"] == "a"


async def _complete(client: Client, order_id: str) -> bool:
    return (await client.orders.timeline(order_id)).complete


# dead letters


async def test_dead_letters_are_listed_grouped_and_shown(operate: Run, deployment: Any) -> None:
    await poison(deployment.processor_dsn, b"no JSON \xff\x1b[2J", good(1))
    await poison(deployment.order_dsn, b"also none")

    listed = await operate("dead-letters", "list", "--json")
    assert [(one["service"], one["event_key"]) for one in listed.json_lines] == [
        ("order", key_of(b"also none")),
        ("processor", "order.created:again-1:1"),
        ("processor", key_of(b"no JSON \xff\x1b[2J")),
    ]
    assert len((await operate("dead-letters", "list", *PROCESSOR, "--limit", "1", "--json")).json_lines) == 1
    groups = (await operate("dead-letters", "groups", *PROCESSOR, "--json")).json_lines
    assert [(group["count"], group["reason"]) for group in groups] == [(2, "it was a test")]
    only = await operate("dead-letters", "list", "--group", groups[0]["group"], *PROCESSOR)
    assert only.output.count("it was a test") == 2

    shown = await operate("dead-letters", "show", "1", *PROCESSOR)
    assert shown.code == 0 and "it was a test" in shown.output and "\x1b" not in shown.output
    assert (await operate("dead-letters", "show", "99", *PROCESSOR)).code == 4


async def test_a_replay_forecasts_asks_and_shows_its_end(
    operate: Run, deployment: Any, client: Client
) -> None:
    await poison(deployment.processor_dsn, good(0), good(1))

    forecast = await operate("dead-letters", "forecast", "--all", *PROCESSOR, "--json")
    assert (forecast.json["total"], forecast.json["will_run"]) == (2, 2)
    unasked = await operate("dead-letters", "replay", "--all", *PROCESSOR, *WHY)
    assert unasked.code == 2 and "--yes" in unasked.errors

    replayed = await operate("dead-letters", "replay", "--all", *PROCESSOR, *WHY, "--yes", "--json")

    assert replayed.code == 0
    assert (replayed.json["state"], replayed.json["handled"]) == ("finished", 2)
    assert (await operate("dead-letters", "list")).output == "no dead letters\n"
    listed = await operate("replays", "list", "--json")
    assert [(one["service"], one["state"]) for one in listed.json_lines] == [("processor", "finished")]
    assert "finished" in (await operate("replays", "show", str(replayed.json["id"]), *PROCESSOR)).output


async def test_ctrl_c_pauses_a_replay_and_resume_goes_on(
    start: Run, operate: Run, deployment: Any, client: Client
) -> None:
    await poison(deployment.processor_dsn, *map(good, range(30)))
    slowly = ("--per-second", "1", "--yes", *PROCESSOR, *WHY)
    running = await start("dead-letters", "replay", "--all", *slowly, settings=deployment.environment)

    async def newest() -> Replay | None:
        """Once something of it is done, and who started it has heard of it."""
        replays = (await client.processor_service.replays_page()).replays
        return next((replay for replay in replays if replay.handled), None)

    replay = await eventually(newest)
    running.process.send_signal(signal.SIGINT)
    interrupted = await running.ended()

    assert interrupted.code == 130 and f"replays resume {replay.id}" in interrupted.errors
    paused = await client.processor_service.replay(replay.id)
    assert paused.state == "paused" and paused.remaining > 0

    cancelled = await operate("replays", "cancel", str(replay.id), *PROCESSOR, *WHY, "--json")
    assert cancelled.json["state"] == "cancelled"
    assert (await operate("replays", "pause", str(replay.id), *PROCESSOR, *WHY)).code == 4


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("y", 0, 0)])
async def test_a_replay_asks_on_a_terminal(
    on_terminal: Callable[..., Any], deployment: Any, client: Client, answer: str, code: int, left: int
) -> None:
    await poison(deployment.processor_dsn, good(0), good(1))
    terminal = on_terminal("dead-letters", "replay", "--all", *PROCESSOR, *WHY)

    await eventually(lambda: "replay 2 dead letters of processor-service? [y/N]" in terminal.shown)
    assert "2  will run" in terminal.shown
    terminal.type(answer + "\n")

    assert await terminal.ended() == code, terminal.shown
    assert (await client.processor_service.dead_letter_groups()).total == left


async def test_a_replay_of_what_still_fails_ends_with_1(operate: Run, deployment: Any) -> None:
    await poison(deployment.processor_dsn, b"still no JSON")

    ended = await operate("dead-letters", "replay", "--all", "--yes", *PROCESSOR, *WHY, "--json")

    assert ended.code == 1 and ended.json["failed"] == 1


async def test_discarding_asks_and_leaves_a_line_in_the_audit_log(operate: Run, deployment: Any) -> None:
    await poison(deployment.processor_dsn, b"one", b"two")

    assert (await operate("dead-letters", "discard", "1", *PROCESSOR, *WHY)).code == 2
    told = await operate("dead-letters", "discard", "1", *PROCESSOR, *WHY, "--yes", "--operator", "Анна")
    assert (told.code, told.output) == (0, "1 discarded\n")
    gone = await operate("dead-letters", "discard", "1", "2", *PROCESSOR, *WHY, "--yes")
    assert gone.code == 4 and "1 were not there" in gone.errors

    audit = (await operate("audit", "--json")).json_lines
    assert [(entry["service"], entry["reason"]) for entry in audit] == [("processor", "a test")] * 2
    assert audit[1]["operator"] == "Анна"
    assert "Анна" in (await operate("audit")).output


# webhooks


async def test_an_endpoint_is_made_told_of_an_order_changed_and_deleted(operate: Run) -> None:
    async with hostile_receiver() as receiver:
        made = await operate("webhooks", "create", receiver.url, "--type", "order.done", "--json", *WHY)
        assert made.code == 0 and made.json["secret"].startswith("whsec_")
        await operate("orders", "submit", "--id", "told", "--customer", "me", "--item", "laptop:1:10")

        async def delivered() -> bool:
            return "delivered" in (await operate("webhooks", "deliveries", "1")).output

        await eventually(delivered)
        [delivery] = (await operate("webhooks", "deliveries", "1", "--json")).json_lines
        assert (delivery["event_type"], delivery["order_id"]) == ("order.done", "told")

        again = await operate("webhooks", "replay", "1", "--delivery", str(delivery["id"]), *WHY)
        assert again.output == "1 are delivered again\n"
        await eventually(lambda: len(receiver.requests) == 2)

    rotated = await operate("webhooks", "rotate", "1", *WHY)
    assert "whsec_" in rotated.output and made.json["secret"] not in rotated.output
    disabled = await operate("webhooks", "disable", "1", *WHY)
    assert disabled.code == 0 and "whsec_" not in disabled.output
    listed = await operate("webhooks", "list")
    assert receiver.url in listed.output and "no: " in listed.output
    assert (await operate("webhooks", "enable", "1", "--json", *WHY)).json["enabled"] is True

    unsure = await operate("webhooks", "delete", "1", *WHY)
    assert unsure.code == 2 and "--yes" in unsure.errors
    assert (await operate("webhooks", "delete", "1", "--yes", *WHY)).code == 0
    assert (await operate("webhooks", "list")).output == "no endpoints\n"
    gone = await operate("webhooks", "deliveries", "1")
    assert (gone.code, gone.output) == (4, "") and gone.errors.count("\n") == 1


# both services


async def test_consuming_is_paused_and_resumed_and_status_tells(operate: Run) -> None:
    paused = await operate("consuming", "pause", *PROCESSOR, *WHY, "--operator", "boris")
    assert paused.code == 0 and "boris" in paused.output

    async def told() -> bool:
        status = await operate("status")
        return status.code == 1 and "consuming was paused by boris: a test" in status.output

    await eventually(told)
    both = await operate("consuming", "status", "--json")
    assert (both.json["order"]["paused"], both.json["processor"]["paused"]) == (False, True)
    assert (await operate("consuming", "resume", *PROCESSOR, *WHY, "--json")).json["processor"][
        "paused"
    ] is False
    await eventually(lambda: _is_well(operate))


async def test_status_tells_of_dead_letters(operate: Run, deployment: Any) -> None:
    await eventually(lambda: _is_well(operate))
    await poison(deployment.processor_dsn, b"one")

    async def told() -> bool:
        return "1 dead letter: order-processor dead-letters groups" in (await operate("status")).output

    await eventually(told)


async def _is_well(operate: Run) -> bool:
    status = await operate("status", "--json")
    return status.code == 0 and all(not each["problems"] for each in status.json.values())


async def test_without_the_key_status_shows_what_everybody_may_see(operate: Run) -> None:
    await eventually(lambda: _is_well(operate))

    status = await operate("status", ORDER_PROCESSOR_KEY="")
    assert status.code == 0 and "✓ ready" in status.output and "--key" in status.errors
    refused = await operate("audit", ORDER_PROCESSOR_KEY="another-key-altogether")
    assert (refused.code, refused.output) == (5, "") and "--key" in refused.errors


async def test_rules_are_shown_checked_rehearsed_and_reloaded(
    operate: Run, client: Client, deployment: Any, tmp_path: Path
) -> None:
    await operate("orders", "submit", "-", stdin=lines(order("a"), order("b", sku="piano")))
    for order_id in ("a", "b"):
        await client.orders.wait(order_id)
    rules = tmp_path / "new.toml"
    rules.write_text('[[rules]]\nskus = ["piano"]\nfail_reason = "Too heavy"\n')

    assert "No teapots" in (await operate("rules", "show")).output
    assert "Too heavy" in (await operate("rules", "check", rules)).output
    rehearsed = await operate("rules", "rehearse", rules, "--last", "10", "--json")
    assert (rehearsed.json["orders"], rehearsed.json["changed"]) == (2, 1)
    assert rehearsed.json["changes"][0]["examples"][0]["order_id"] == "b"
    assert "Too heavy" in (await operate("rules", "rehearse", rules)).output

    wrong = await operate("rules", "check", "-", stdin=b"[[rules]]\nskus = 3\n")
    assert wrong.code == 1 and wrong.output == ""
    assert (await operate("rules", "check", tmp_path / "missing")).code == 2

    (tmp_path / "rules.toml").write_bytes(rules.read_bytes())
    reloaded = await operate("rules", "reload", *WHY, "--json")
    assert reloaded.json["rules"] == [{"skus": ["piano"], "fail_reason": "Too heavy"}]


async def test_top_into_a_pipe_is_one_look(operate: Run, start: Run, deployment: Any) -> None:
    look = await operate("top")
    assert look.code == 0 and "accepted per s" in look.output and "order-service" in look.output

    running = await start("top", "--json", "--every", "0.2", settings=deployment.environment)
    looks = [msgspec.json.decode(await running.process.stdout.readline()) for _ in range(2)]
    running.process.send_signal(signal.SIGINT)
    assert (await running.ended()).code == 0
    assert looks[0]["at"] < looks[1]["at"] and looks[1]["services"]["order"]["reachable"]


@pytest.mark.parametrize("leaving", ["q", "\x03"])
async def test_top_is_live_on_a_terminal_and_leaves_it_as_it_was(
    on_terminal: Callable[..., Any], leaving: str
) -> None:
    terminal = on_terminal("top", "--every", "0.2")
    await eventually(lambda: terminal.shown.count("q leaves") >= 2)

    terminal.type(leaving)

    assert await terminal.ended() == 0
    assert terminal.settings == terminal.settings_before
    # The screen as it was, and its cursor.
    await eventually(lambda: all(code in terminal.shown for code in ("\x1b[?1049l", "\x1b[?25h")))


async def test_top_works_while_a_service_is_down(operate: Run) -> None:
    look = await operate("top", "--processor-url", "http://127.0.0.1:1")

    assert look.code == 0 and "not reachable" in look.output and "✓ ready" in look.output


async def test_both_clients_read_every_answer_of_the_real_routes(
    client: Client, deployment: Any, operate: Run
) -> None:
    """What no command asks for; whatever one of the models expects and a service lacks raises here."""
    await client.processor_service.pause_consuming("a test")
    await operate("orders", "submit", "-", stdin=lines(order("a"), order("b")))
    page = await client.orders.page(limit=1)
    assert [one.order_id for one in page.data] == ["b"] and page.has_more
    before = await client.orders.page(limit=1, ending_before="a")
    assert [one.order_id for one in before.data] == ["b"]
    assert (await client.order_service.stuck_orders()).total >= 0
    assert await client.order_service.reconcile("a test", ["a"]) >= 0
    await client.processor_service.resume_consuming("a test")
    await client.orders.wait("a")
    assert (await client.processor_service.order_trace("a"))["order_id"] == "a"

    async def flowed() -> int:
        return sum(sample.accepted for sample in (await client.order_service.flow(900)).samples)

    assert await eventually(flowed) == 2
    assert (await client.order_service.readiness()).status == "ready"
    assert await asyncio.to_thread(_read_blocking, deployment) == ["b", "a"]


def _read_blocking(deployment: Any) -> list[str]:
    from order_processor_client import OrderProcessorClient

    environment = deployment.environment
    with OrderProcessorClient(
        environment["ORDER_PROCESSOR_URL"], key=environment["ORDER_PROCESSOR_KEY"]
    ) as client:
        assert client.order_service.state().service == "order-service"
        return [order.order_id for order in client.orders.list()]
