"""Deciding and answering, on a store in memory."""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

from processor_service.application.ports import (
    Answer,
    DecidedOrders,
    OrderToProcess,
    Policy,
    ProcessingState,
)
from processor_service.application.process_orders import Processed, process_orders
from processor_service.domain.decision import Decision, Postponement, Verdict, approve, reject
from processor_service.domain.order import Order, OrderId

APPROVED = approve()


@dataclass
class Tables:
    states: dict[OrderId, ProcessingState] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)


class StoreInMemory(DecidedOrders):
    """Records in `tables`."""

    def __init__(self, *states: ProcessingState) -> None:
        self.tables = Tables(states={state.order_id: state for state in states})
        self.transactions = 0

    async def find(self, order_ids: Collection[OrderId]) -> Mapping[OrderId, ProcessingState]:
        return {id: self.tables.states[id] for id in order_ids if id in self.tables.states}

    async def record(self, decided: Mapping[str, Answer], repeated: Sequence[Answer]) -> set[OrderId]:
        self.transactions += 1
        fresh = [answer for key, answer in decided.items() if key not in self.tables.keys]
        newer = [answer for answer in fresh if self._is_newer(answer.state)]
        saved = {answer.state.order_id: answer.state for answer in newer}
        self.tables.keys |= decided.keys()
        self.tables.states |= saved
        self.tables.answers += [*newer, *repeated]
        return set(saved)

    def _is_newer(self, state: ProcessingState) -> bool:
        stored = self.tables.states.get(state.order_id)
        return stored is None or stored.version < state.version


class ScriptedPolicy(Policy):
    """Gives the verdicts of `script` by order id, otherwise approves; does `meanwhile` first."""

    def __init__(self, store: StoreInMemory, **script: Verdict) -> None:
        self.store = store
        self.script = script
        self.asked: list[OrderId] = []
        self.meanwhile: Tables | None = None

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        self.asked += [order.order_id for order in orders]
        if self.meanwhile:
            self.store.tables = self.meanwhile
        return [self.script.get(order.order_id, approve()) for order in orders]


def received(
    order_id: str, version: int = 1, attempt: int = 1, last_error: str | None = None
) -> OrderToProcess:
    return OrderToProcess(
        key=f"order.created:{order_id}:{version}",
        order=Order(order_id=OrderId(order_id), customer_id=None, items=(), amount=None, version=version),
        attempt=attempt,
        last_error=last_error,
        traceparent=f"trace of {order_id}",
        event=b"{}",
        received_at=0.0,
    )


def state(order_id: str, version: int = 1, decision: Decision = APPROVED) -> ProcessingState:
    return ProcessingState(
        order_id=OrderId(order_id),
        version=version,
        decision=decision,
        attempt_count=1,
        last_error=decision.fail_reason,
    )


async def run(
    store: StoreInMemory, policy: ScriptedPolicy, *items: OrderToProcess
) -> list[Processed | Postponement]:
    return await process_orders(items, policy, store)


async def test_an_order_is_decided_stored_and_answered() -> None:
    store = StoreInMemory()

    outcomes = await run(
        store, ScriptedPolicy(store, b=reject("why")), received("a"), received("b", version=4)
    )

    assert outcomes == [Processed.DECIDED, Processed.DECIDED]
    a, b = state("a"), state("b", version=4, decision=reject("why"))
    assert store.tables == Tables(
        states={a.order_id: a, b.order_id: b},
        keys={"order.created:a:1", "order.created:b:4"},
        answers=[Answer(a, "trace of a"), Answer(b, "trace of b")],
    )


async def test_a_duplicate_is_answered_with_the_same_decision_and_not_decided_again() -> None:
    store = StoreInMemory()
    policy = ScriptedPolicy(store, a=reject("why"))
    await run(store, policy, received("a"))
    policy.script = {}

    assert await run(store, policy, received("a")) == [Processed.REPEATED]

    first, again = store.tables.answers
    assert first == again
    assert policy.asked == ["a"]
    assert store.tables.states == {"a": state("a", decision=reject("why"))}


async def test_a_duplicate_is_answered_even_when_its_key_was_forgotten() -> None:
    store = StoreInMemory(state("a"))

    assert await run(store, ScriptedPolicy(store), received("a")) == [Processed.REPEATED]
    assert store.tables.answers == [Answer(state("a"), "trace of a")]


async def test_an_older_version_is_ignored_and_not_answered() -> None:
    store = StoreInMemory(state("a", version=3))
    before = deepcopy(store.tables)
    policy = ScriptedPolicy(store)

    assert await run(store, policy, received("a", version=2)) == [Processed.IGNORED]
    assert store.tables == before
    assert policy.asked == []
    assert store.transactions == 0


async def test_a_newer_version_is_decided_anew() -> None:
    store = StoreInMemory(state("a", version=1, decision=reject("why")))

    assert await run(store, ScriptedPolicy(store), received("a", version=2)) == [Processed.DECIDED]
    assert store.tables.states == {"a": state("a", version=2)}


async def test_who_loses_the_race_for_an_event_neither_stores_nor_answers() -> None:
    store = StoreInMemory()
    policy = ScriptedPolicy(store, a=reject("ours"))
    policy.meanwhile = Tables(states={OrderId("a"): state("a")}, keys={"order.created:a:1"})

    assert await run(store, policy, received("a"), received("b")) == [Processed.IGNORED, Processed.DECIDED]
    assert store.tables.states == {"a": state("a"), "b": state("b")}
    assert store.tables.answers == [Answer(state("b"), "trace of b")]


async def test_an_event_whose_key_was_accepted_has_no_second_effect() -> None:
    store = StoreInMemory()
    store.tables.keys = {"order.created:a:1"}

    assert await run(store, ScriptedPolicy(store), received("a")) == [Processed.IGNORED]
    assert store.tables == Tables(keys={"order.created:a:1"})


async def test_who_is_overtaken_by_a_newer_version_does_not_answer() -> None:
    store = StoreInMemory()
    policy = ScriptedPolicy(store)
    policy.meanwhile = Tables(states={OrderId("a"): state("a", version=2)})

    assert await run(store, policy, received("a", version=1)) == [Processed.IGNORED]
    assert store.tables.states == {"a": state("a", version=2)}
    assert store.tables.answers == []


async def test_a_postponed_order_keeps_its_key_free_and_does_not_affect_its_neighbours() -> None:
    store = StoreInMemory()
    later = Postponement(reason="the bank sleeps", delay_seconds=5.0, counts=False)
    policy = ScriptedPolicy(store, b=later)

    outcomes = await run(store, policy, received("a"), received("b"), received("c"))

    assert outcomes == [Processed.DECIDED, later, Processed.DECIDED]
    assert store.tables.keys == {"order.created:a:1", "order.created:c:1"}
    policy.script = {}
    assert await run(store, policy, received("b", attempt=2)) == [Processed.DECIDED]


async def test_without_anything_to_store_nothing_is_recorded() -> None:
    store = StoreInMemory()

    await run(store, ScriptedPolicy(store, a=Postponement(reason="later")), received("a"))

    assert store.transactions == 0


async def test_a_state_tells_how_many_attempts_it_took_and_what_went_wrong_last() -> None:
    store = StoreInMemory()
    policy = ScriptedPolicy(store, b=reject("why"))

    await run(
        store,
        policy,
        received("a", attempt=3, last_error="the bank slept"),
        received("b", attempt=2, last_error="the bank slept"),
        received("c"),
    )

    told = {id: (kept.attempt_count, kept.last_error) for id, kept in store.tables.states.items()}
    assert told == {"a": (3, "the bank slept"), "b": (2, "why"), "c": (1, None)}


async def test_the_outcomes_come_in_the_order_of_the_events() -> None:
    store = StoreInMemory(state("repeated"), state("ignored", version=9))
    later = Postponement(reason="later")
    policy = ScriptedPolicy(store, postponed=later)

    names = ["postponed", "ignored", "decided", "repeated"]
    outcomes = await run(store, policy, *[received(name) for name in names])

    assert outcomes == [later, Processed.IGNORED, Processed.DECIDED, Processed.REPEATED]


async def test_decisions_and_repeated_answers_are_recorded_at_once() -> None:
    store = StoreInMemory(state("repeated"))

    await run(store, ScriptedPolicy(store), received("repeated"), received("a"), received("b"))

    assert store.transactions == 1
    assert [answer.state.order_id for answer in store.tables.answers] == ["a", "b", "repeated"]


async def test_a_repeated_answer_goes_out_in_the_trace_of_the_question() -> None:
    store = StoreInMemory(state("a"))

    await run(store, ScriptedPolicy(store), replace(received("a"), traceparent="another trace"))

    assert store.tables.answers == [Answer(state("a"), "another trace")]
