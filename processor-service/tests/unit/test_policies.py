"""The user's own code as the policy."""

import asyncio
import functools
import sys
import threading
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram
from structlog.testing import capture_logs

from processor_service.domain.decision import Postponement, Verdict
from processor_service.infrastructure.policies import CallablePolicy, MeasuredPolicy, load_policy
from processor_service.policy import Decision, Item, Order, RetryLater, approve, reject
from service_kit.errors import StartupError
from service_kit.observability.subjects import in_traces

TOO_EXPENSIVE = reject("Too expensive")


def an_order(order_id: str = "o-1", amount: int = 1) -> Order:
    items = (Item(sku="laptop", quantity=1, price=Decimal(amount)),)
    return Order(order_id=order_id, customer_id="c-1", items=items, amount=Decimal(amount), version=1)  # type: ignore[arg-type]


async def decide(policy: Callable[[Order], object], order: Order | None = None, **settings: Any) -> Verdict:
    [verdict] = await CallablePolicy(policy, **settings).decide([order or an_order()])
    return verdict


def plain(order: Order) -> Decision:
    return TOO_EXPENSIVE if order.amount and order.amount > 10 else approve()


async def asynchronous(order: Order) -> Decision:
    await asyncio.sleep(0)
    return plain(order)


class CallableObject:
    def __call__(self, order: Order) -> Decision:
        return plain(order)


class AsyncCallableObject:
    async def __call__(self, order: Order) -> Decision:
        return await asynchronous(order)

    async def method(self, order: Order) -> Decision:
        return await asynchronous(order)


@functools.wraps(asynchronous)
def decorated(order: Order) -> Awaitable[Decision]:
    return asynchronous(order)


def with_limit(order: Order, limit: int) -> Decision:
    return TOO_EXPENSIVE if order.amount and order.amount > limit else approve()


async def with_limit_async(order: Order, limit: int) -> Decision:
    return with_limit(order, limit)


FORMS: dict[str, Callable[[Order], object]] = {
    "function": plain,
    "coroutine function": asynchronous,
    "callable object": CallableObject(),
    "async callable object": AsyncCallableObject(),
    "method": AsyncCallableObject().method,
    "lambda": lambda order: plain(order),
    "lambda around a coroutine function": lambda order: asynchronous(order),
    "decorated coroutine function": decorated,
    "partial": functools.partial(with_limit, limit=10),
    "partial coroutine function": functools.partial(with_limit_async, limit=10),
    "partial async callable object": functools.partial(AsyncCallableObject()),
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_callable_decides(form: str) -> None:
    policy = CallablePolicy(FORMS[form])

    assert await policy.decide([an_order(amount=5), an_order(amount=50)]) == [approve(), TOO_EXPENSIVE]
    assert await policy.decide([]) == []


async def test_a_synchronous_policy_does_not_block_the_event_loop() -> None:
    go_on = threading.Event()

    def blocking(order: Order) -> Decision:
        assert go_on.wait(20)
        return approve()

    verdict = asyncio.create_task(decide(blocking))
    await asyncio.sleep(0)
    go_on.set()  # reached only if the loop runs while the policy waits

    assert await verdict == approve()


async def test_what_a_policy_raises_postpones_that_one_order() -> None:
    async def moody(order: Order) -> Decision:
        if order.order_id == "bad":
            raise KeyError("stock")
        return approve()

    good, bad, other = await CallablePolicy(moody).decide([an_order("a"), an_order("bad"), an_order("c")])

    assert (good, other) == (approve(), approve())
    assert bad == Postponement(reason="the policy failed: KeyError: 'stock'")


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_policy_may_ask_to_be_tried_again_later(is_async: bool) -> None:
    def later(order: Order) -> Decision:
        raise RetryLater("the bank sleeps", delay_seconds=7.5, counts=False)

    async def later_async(order: Order) -> Decision:
        return later(order)

    verdict = await decide(later_async if is_async else later)

    assert verdict == Postponement(reason="the bank sleeps", delay_seconds=7.5, counts=False)


async def test_a_policy_that_does_not_answer_in_time_postpones_that_one_order() -> None:
    async def slow(order: Order) -> Decision:
        if order.order_id == "slow":
            await asyncio.Event().wait()
        return approve()

    verdicts = await CallablePolicy(slow, timeout_seconds=0.01).decide([an_order("slow"), an_order("quick")])

    assert verdicts == [Postponement(reason="the policy took longer than 0.01 s"), approve()]


async def test_a_timeout_of_the_policys_own_is_told_as_its_failure() -> None:
    async def impatient(order: Order) -> Decision:
        raise TimeoutError("the bank did not answer")

    assert await decide(impatient) == Postponement(
        reason="the policy failed: TimeoutError: the bank did not answer"
    )


async def test_a_policy_whose_own_task_was_cancelled_postpones_that_one_order() -> None:
    async def cancelled(order: Order) -> Decision:
        if order.order_id == "bad":
            raise asyncio.CancelledError
        return approve()

    bad, good = await CallablePolicy(cancelled).decide([an_order("bad"), an_order("good")])

    assert isinstance(bad, Postponement)
    assert good == approve()


async def test_cancelling_the_decision_itself_still_works() -> None:
    started = asyncio.Event()

    async def slow(order: Order) -> Decision:
        started.set()
        await asyncio.Event().wait()
        return approve()

    deciding = asyncio.create_task(decide(slow))
    await started.wait()
    deciding.cancel()

    with pytest.raises(asyncio.CancelledError):
        await deciding


@pytest.mark.parametrize("answer", [None, True, "approve", Decision, {"fail_reason": None}])
async def test_an_answer_that_is_no_decision_postpones_that_one_order(answer: object) -> None:
    verdict = await decide(lambda order: answer)

    assert verdict == Postponement(reason=f"the policy returned {answer!r}, not a Decision")


async def test_no_more_than_that_many_orders_are_decided_at_a_time() -> None:
    running = most = 0
    full = asyncio.Event()

    async def counting(order: Order) -> Decision:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return approve()

    verdicts = await CallablePolicy(counting, concurrency_max=3).decide([an_order(str(n)) for n in range(20)])

    assert verdicts == [approve()] * 20
    assert most == 3


async def test_as_many_orders_are_decided_at_a_time_by_a_synchronous_policy() -> None:
    """However few processors there are: each waits for all the others."""
    all_there = threading.Barrier(32)

    def blocking(order: Order) -> Decision:
        all_there.wait(20)
        return approve()

    verdicts = await CallablePolicy(blocking, concurrency_max=32).decide(
        [an_order(str(n)) for n in range(32)]
    )

    assert verdicts == [approve()] * 32


@pytest.fixture
def policy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


async def test_a_policy_is_loaded_from_the_current_folder(policy_folder: Path) -> None:
    (policy_folder / "my_policy.py").write_text(
        "from processor_service.policy import Decision, Order, reject\n"
        "async def decide(order: Order) -> Decision:\n"
        "    return reject(f'not {order.order_id}')\n"
        "class Deep:\n"
        "    decide = staticmethod(decide)\n"
    )

    assert await decide(load_policy("my_policy:decide")) == reject("not o-1")
    assert await decide(load_policy("my_policy:Deep.decide")) == reject("not o-1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("policy", "must have the form module:callable"),
        (":decide", "must have the form module:callable"),
        ("policy:", "must have the form module:callable"),
        ("no_such_module:decide", "ModuleNotFoundError"),
        ("broken:decide", "SyntaxError"),
        ("raising:decide", "ValueError: first line second line"),
        ("fine:no_such_name", "AttributeError"),
        ("fine:number", "is not callable"),
        (".fine:decide", "TypeError"),
    ],
)
def test_a_policy_that_cannot_be_loaded_is_told_in_one_line(
    policy_folder: Path, name: str, words: str
) -> None:
    (policy_folder / "broken.py").write_text("def decide(:\n")
    (policy_folder / "raising.py").write_text("raise ValueError('first line\\n  second line')\n")
    (policy_folder / "fine.py").write_text("number = 7\n")

    with pytest.raises(StartupError) as raised:
        load_policy(name)

    text = str(raised.value)
    assert raised.value.exit_code == 2
    assert text.startswith("APP__POLICY: ") and repr(name) in text and words in text
    assert "\n" not in text


async def test_a_failure_of_the_policy_is_logged_with_order_and_trace() -> None:
    def broken(order: Order) -> Decision:
        raise ZeroDivisionError

    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with capture_logs() as lines, in_traces({"o-1": traceparent}):
        await decide(broken)

    [line] = lines
    assert (line["event"], line["order_id"]) == ("policy_failed", "o-1")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_each_batch_of_decisions_is_measured() -> None:
    registry = CollectorRegistry()
    duration = Histogram("decision_seconds", "", registry=registry)

    [verdict] = await MeasuredPolicy(CallablePolicy(lambda _: approve()), duration).decide([an_order()])

    assert verdict == approve()
    assert registry.get_sample_value("decision_seconds_count") == 1
