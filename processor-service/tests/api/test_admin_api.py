"""`/admin/orders/{order_id}` and `/admin/rules` of the service itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from processor_service.domain.rules import Ruleset
from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.inprocess import InProcessBroker
from service_kit.message import Message
from service_kit.service import Service
from service_kit.testing.eventually import eventually

KEY = "a-key-of-the-operators"
HEADERS = {"authorization": f"Bearer {KEY}", "x-operator": "anna"}
NOWHERE = "postgresql://postgres@127.0.0.1:1/none"
RULES = '[[rules]]\nskus = ["piano", "<b>organ</b>"]\nfail_reason = "Too heavy"\n'
PATHS = [
    ("GET", "/admin/orders/o-1"),
    ("GET", "/admin/rules"),
    ("POST", "/admin/rules/check"),
    ("POST", "/admin/rules/rehearse"),
    ("POST", "/admin/rules/reload"),
]


@asynccontextmanager
async def operated(
    dsn: str, broker: InProcessBroker, *, headers: dict[str, str] = HEADERS, ready: bool = True, **more: Any
) -> AsyncIterator[httpx.AsyncClient]:
    settings = ProcessorSettings(
        db_dsn=dsn,
        port=0,
        auth="off",
        shutdown_grace_seconds=5.0,
        instance="p-1",
        **{"admin_key": KEY, **more},
    )
    policy = configured_policy(settings, Random(1))
    async with (
        Service("processor-service", processor_service(settings, broker, policy)) as service,
        httpx.AsyncClient(base_url=service.url, timeout=30, headers=headers) as client,
    ):
        if ready:
            await service.ready()
        yield client


async def publish(broker: InProcessBroker, *bodies: bytes) -> None:
    """In a task: the broker confirms when the service has handled them."""
    messages = [
        Message(routing_key="order.created", body=body, message_id=str(number), headers={})
        for number, body in enumerate(bodies)
    ]
    await broker.publisher().publish(messages)


def event(order_id: str, *skus: str) -> bytes:
    names = ", ".join(f'"{sku}"' for sku in skus)
    return f'{{"order_id": "{order_id}",  "items": [{names}]}}'.encode()


async def steps(client: httpx.AsyncClient, order_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/admin/orders/{order_id}")
    assert answer.status_code in (200, 404), answer.text
    return answer.json()["steps"] if answer.status_code == 200 else []


# access


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_its_key_nothing_is_told(
    dsn: str, broker: InProcessBroker, method: str, path: str
) -> None:
    async with operated(dsn, broker, headers={"x-operator": "anna"}) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["error_type"]) == (401, "Unauthorized")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_key_at_all_it_is_closed(
    processor: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await processor.request(method, path, headers=HEADERS)

    assert (answer.status_code, answer.json()["error_type"]) == (403, "AdminClosed")


# one order


async def test_a_decided_order_tells_who_decided_it_when_and_why(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker) as client, broker.subscribe("answers", ["order.processed"], prefetch=10):
        await publish(broker, event("o-1", "laptop", "teapot"))
        found = await steps(client, "o-1")

    received, decided, *rest = found
    assert [received["step"], decided["step"]] == ["received", "decided"]
    assert {step["service"] for step in found} == {"processor-service"}
    assert (received["by"], decided["by"]) == ("p-1", "p-1")
    assert received["at"] <= decided["at"]
    assert received["detail"] == {"attempt": 1}
    assert decided["detail"] == {
        "outcome": "failed",
        "version": 1,
        "fail_reason": "Pineapple/teapot embargo",
        "rule": 1,
        "sku": "teapot",
        "ruleset_version": Ruleset().version,
    }
    assert [step["step"] for step in rest] in (["waiting"], ["answered"])


async def test_an_answer_and_its_repetition_are_told(dsn: str, broker: InProcessBroker) -> None:
    async with (
        operated(dsn, broker) as client,
        broker.subscribe("answers", ["order.processed"], prefetch=10) as answers,
    ):

        async def answered() -> list[dict[str, Any]] | None:
            found = [step for step in await steps(client, "o-1") if step["step"] == "answered"]
            return found if len(found) == count else None

        for count in (1, 2):  # noqa: B007, how many are waited for
            await publish(broker, event("o-1", "laptop"))
            for delivery in await answers.receive(1):
                await answers.acknowledge(delivery)
            found = await eventually(answered)

    assert [step["detail"]["number"] for step in found] == [1, 2]
    assert all(step["detail"]["published_at"] <= step["at"] for step in found)
    assert {step["by"] for step in found} == {"p-1"}


async def test_an_order_that_waits_or_was_set_aside_tells_why(
    dsn: str, broker: InProcessBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "put_off.py").write_text(
        "from processor_service.policy import RetryLater\n"
        "def decide(order):\n"
        "    raise RetryLater('the bank sleeps\\nTraceback: secret', delay_seconds=3600)\n"
    )
    async with operated(dsn, broker, policy="put_off:decide") as client:
        await publish(broker, event("late", "laptop"), b'{"order_id": "bad", "items": 7}')
        [retry], [letter] = await steps(client, "late"), await steps(client, "bad")

    assert (retry["step"], retry["detail"]["reason"]) == ("retry", "the bank sleeps")
    assert (letter["step"], letter["detail"]["attempts"]) == ("dead_letter", 1)
    assert "items" in letter["detail"]["reason"]


async def test_nothing_known_of_an_order_is_a_problem_404(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker) as client:
        answer = await client.get("/admin/orders/nobody")

    assert (answer.status_code, answer.json()["error_type"]) == (404, "OrderNotFound")


async def test_without_a_database_it_is_a_problem_503(broker: InProcessBroker) -> None:
    async with operated(NOWHERE, broker, ready=False) as client:
        order = await client.get("/admin/orders/o-1")
        rehearsal = await client.post("/admin/rules/rehearse", json={"toml": RULES})

    assert {order.json()["error_type"], rehearsal.json()["error_type"]} == {"ServiceUnavailable"}


# rules


async def test_the_rules_in_force_are_told(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker, success_rate=0.5) as client:
        told = (await client.get("/admin/rules")).json()

    assert told.pop("loaded_at").endswith("Z")
    assert told == {
        "policy": None,
        "version": Ruleset(success_rate=0.5).version,
        "source": "built in",
        "rules": [
            {"skus": ["pineapple_pizza", "teapot"], "fail_reason": "Pineapple/teapot embargo"},
            {"skus": ["potato"], "fail_reason": "Too fatty food"},
        ],
        "success_rate": 0.5,
        "problem": None,
    }


async def test_a_policy_of_the_users_own_is_told_and_signs_its_decisions(
    dsn: str, broker: InProcessBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all_of_them.py").write_text(
        "from processor_service.policy import Decision\n"
        "async def decide(order):\n"
        "    return Decision(rule=7, sku='x', ruleset_version='y')\n"
    )
    name = "all_of_them:decide"
    async with operated(dsn, broker, policy=name) as client:
        told = (await client.get("/admin/rules")).json()
        await publish(broker, event("o-1", "teapot"))
        decided = next(step for step in await steps(client, "o-1") if step["step"] == "decided")

    assert (told["policy"], told["rules"]) == (name, [])
    assert (decided["detail"]["rule"], decided["detail"]["ruleset_version"]) == (None, name)


async def test_a_ruleset_is_checked(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker) as client:
        good = await client.post("/admin/rules/check", json={"toml": RULES})
        bad = await client.post("/admin/rules/check", json={"toml": RULES + "[[rules]]\nskus = [1]"})
        no_toml = await client.post("/admin/rules/check", json={"toml": "\n\n<script>"})

    assert good.status_code == 200
    assert good.json()["rules"] == [{"skus": ["<b>organ</b>", "piano"], "fail_reason": "Too heavy"}]
    assert (bad.status_code, bad.json()["error_type"]) == (400, "InvalidRuleset")
    assert [error["loc"] for error in bad.json()["errors"]] == [["rules", 2], ["rules", 2]]
    assert [error["loc"] for error in no_toml.json()["errors"]] == [["line", 3]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("check", b""),
        ("check", b"{"),
        ("check", b"[]"),
        ("check", b'{"toml": 1}'),
        ("check", b'{"toml": "", "more": 1}'),
        ("rehearse", b'{"toml": "rules = []", "last": 0}'),
        ("rehearse", b'{"toml": "rules = []", "last": 100001}'),
        ("reload", b"{}"),
        ("reload", b'{"reason": ""}'),
        ("check", b"\xff"),
        ("check", b"[" * 100_000),
    ],
)
async def test_a_body_that_is_not_valid_is_a_problem_400(
    dsn: str, broker: InProcessBroker, path: str, body: bytes
) -> None:
    async with operated(dsn, broker) as client:
        answer = await client.post(f"/admin/rules/{path}", content=body)

    assert (answer.status_code, answer.json()["error_type"]) == (400, "ValidationError")
    assert answer.json()["errors"]


async def test_a_ruleset_is_rehearsed_on_what_was_decided(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker) as client:
        await publish(broker, event("a", "piano"), event("b", "teapot"), event("c", "lamp"))
        answer = await client.post("/admin/rules/rehearse", json={"toml": RULES, "last": 100})

    assert answer.status_code == 200
    told = answer.json()
    assert (told["orders"], told["unchanged"], told["changed"]) == (3, 1, 2)
    assert {(change["from"], change["to"]) for change in told["changes"]} == {
        ("done", "failed: Too heavy"),
        ("failed: Pineapple/teapot embargo", "done"),
    }


async def test_a_file_is_reloaded_by_an_operator_and_decides_from_then_on(
    dsn: str, broker: InProcessBroker, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("rules = []")
    async with operated(dsn, broker, rules_file=str(path)) as client:
        path.write_text(RULES)
        told = await client.post("/admin/rules/reload", json={"reason": "no more pianos"})
        await publish(broker, event("o-1", "piano"))
        decided = next(step for step in await steps(client, "o-1") if step["step"] == "decided")

        path.write_text("oops")
        broken = await client.post("/admin/rules/reload", json={"reason": "a typo"})
        metrics = (await client.get("/metrics")).text
        after = (await client.get("/admin/rules")).json()
        log = (await client.get("/admin/audit", params={"limit": 2})).json()["entries"]

    assert [(entry["action"], entry["operator"], entry["reason"]) for entry in log] == [
        ("rules.reload", "anna", "a typo"),
        ("rules.reload", "anna", "no more pianos"),
    ]
    assert told.status_code == 200
    assert (told.json()["source"], told.json()["problem"]) == (str(path), None)
    assert decided["detail"]["ruleset_version"] == told.json()["version"]
    assert decided["detail"]["fail_reason"] == "Too heavy"
    assert (broken.status_code, broken.json()["error_type"]) == (400, "InvalidRuleset")
    assert (after["version"], after["problem"][:6]) == (told.json()["version"], "line 1")
    assert "\nrules_file_broken 1.0" in metrics


async def test_without_a_file_there_is_nothing_to_reload(dsn: str, broker: InProcessBroker) -> None:
    async with operated(dsn, broker) as client:
        answer = await client.post("/admin/rules/reload", json={"reason": "why not"})

    assert (answer.status_code, answer.json()["error_type"]) == (409, "RulesNotReloaded")
