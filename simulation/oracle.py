"""The oracle: what must hold at every moment of a run, and what must hold when it has come to rest."""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from order_service.application.cancel_order import Cancellation, CancelOutcome
from order_service.application.create_orders import Creation
from order_service.domain.order import Order, OrderSummary
from processor_service.domain.rules import BUILT_IN_RULES, RANDOM_FAILURE
from service_kit.broker import PublishOutcome
from service_kit.message import Message
from simulation.broker.faults import REJECTION
from simulation.database.rows import Values
from simulation.database.server import Change
from simulation.database.statements import Tables
from simulation.orders import CURSED, order_id, parsed_order
from simulation.plan import Plan, Post
from simulation.trace import Trace

if TYPE_CHECKING:
    from simulation.broker.server import BrokerServer

CREATED, PROCESSED, CANCELLED = "order.created", "order.processed", "order.cancelled"


class Oracle:
    """Every violation is remembered with its moment; none ends the run."""

    def __init__(self, plan: Plan, trace: Trace, clock: Callable[[], float]) -> None:
        self.violations: list[str] = []
        self.accepted: dict[str, int] = {}
        self._plan = plan
        self._trace = trace
        self._clock = clock
        self._created: set[str] = set()
        self._to_be_cancelled: set[str] = set()
        self._cancelled: set[str] = set()
        self._seen_versions: dict[str, int] = {}
        self._bodies: dict[str, bytes] = {}
        self._confirmed: set[str] = set()
        self._lost: set[str] = set()
        self._published: Counter[str] = Counter()
        self._letters: dict[tuple[str, str], str] = {}
        self._may_wait = {order_id(number) for number in plan.postponed}

    def look_at(self, orders: Tables, states: Tables, broker: "BrokerServer") -> None:
        self._orders, self._states, self._broker = orders, states, broker

    def violation(self, text: str) -> None:
        self.violations.append(f"at {self._clock():.3f} s: {text}")
        if self._trace.keep:
            self._trace.add(self._clock(), "ORACLE", text)

    # what clients see

    def answered(self, post: Post, creation: Creation, order: Order, before: int) -> None:
        self._trace.events += 1
        id = order_id(post.number)
        accepted = creation is not Creation.CONFLICT
        if creation is Creation.CREATED:
            if id in self._created:
                self.violation(f"{id} was answered as new twice")
            self._created.add(id)
        asked = parsed_order(post.number, post.variant)
        stored = self._orders.orders.rows.get(id)
        if stored is None or stored.values is None:
            self.violation(f"{id} was answered and is not stored")
        elif accepted and not asked.same_content(order):
            self.violation(f"{id} was accepted, and another order stored")
        elif accepted and self.accepted.setdefault(id, post.variant) != post.variant:
            self.violation(f"{id} was accepted with two contents")
        elif not accepted and asked.same_content(order):
            self.violation(f"{id} is a conflict with itself")
        self.seen(id, order, before)

    def version_seen(self, id: str) -> int:
        """The newest that any client has seen: nobody who asks from now on may see an older one."""
        return self._seen_versions.get(id, 0)

    def cancel_asked(self, id: str) -> None:
        self._to_be_cancelled.add(id)

    def cancel_answered(self, id: str, outcome: CancelOutcome, before: int) -> None:
        self._trace.events += 1
        row = self._orders.orders.rows.get(id)
        stored = row.values["status"] if row and row.values else None
        too_late = outcome.cancellation is Cancellation.TOO_LATE
        if outcome.order.status != stored or too_late == (stored == "cancelled"):
            self.violation(f"{id} is {stored}, and to cancel it was {outcome.cancellation.value}")
        if outcome.cancellation is Cancellation.CANCELLED:
            if id in self._cancelled:
                self.violation(f"{id} was cancelled twice")
            self._cancelled.add(id)
        self.seen(id, outcome.order, before)

    def seen(self, id: str, order: OrderSummary | None, before: int) -> None:
        version = order.version if order else 0
        if version < before:
            self.violation(f"version {version} of {id} was seen after version {before}")
        self._seen_versions[id] = max(version, self._seen_versions.get(id, 0))

    # what is committed

    def order_commit(self, changes: list[Change]) -> None:
        self._trace.events += 1
        for table, key, old, new in changes:
            if table == "orders":
                self._order_changed(key, old, new, changes)
            elif table == "processed_inbox" and new is not None:
                self._result_accepted(key, changes)
            else:
                self._stored("orders", table, key, old, new, changes)

    def processor_commit(self, changes: list[Change]) -> None:
        self._trace.events += 1
        for table, key, old, new in changes:
            if table == "processing_states":
                self._state_changed(key, old, new)
            elif table == "processed_inbox" and new is not None:
                self._order_accepted(key, changes)
            else:
                self._stored("states", table, key, old, new, changes)

    def _order_changed(self, id: str, old: Values | None, new: Values | None, changes: list[Change]) -> None:
        if new is None:
            self.violation(f"{id} was deleted")
            return
        if old is None:
            if not any(_tells_of(id, new, change) for change in changes):
                self.violation(f"{id} was stored without its event")
            self._logged(id, new, CREATED, changes)
            return
        if any(old[name] != new[name] for name in ("customer_id", "items", "amount")):
            self.violation(f"the contents of {id} were changed")
        if old["status"] != "pending" and (old["status"], old["version"]) != (new["status"], new["version"]):
            self.violation(f"{id} was final and changed again")
        elif old["status"] != new["status"] == "cancelled":
            self._order_cancelled(id, new, changes)
        if old["status"] != new["status"]:
            self._logged(id, new, f"order.{new['status']}", changes)
        if new["version"] < old["version"]:
            self.violation(f"the version of {id} went back from {old['version']} to {new['version']}")

    def _logged(self, id: str, order: Values, type: str, changes: list[Change]) -> None:
        logged = [
            row for table, _, _, row in changes if table == "order_log" and row and row["order_id"] == id
        ]
        if [(row["type"], row["version"]) for row in logged] != [(type, order["version"])]:
            self.violation(f"{id} is {order['status']}, and the log says {logged}")

    def _order_cancelled(self, id: str, new: Values, changes: list[Change]) -> None:
        if id not in self._to_be_cancelled:
            self.violation(f"{id} was cancelled, and nobody had asked for it")
        told = [row["payload"] for table, _, old, row in changes if table == "outbox" and row and not old]
        bodies = [msgspec.json.decode(payload) for payload in told]
        if not any((body["order_id"], body["version"]) == (id, new["version"]) for body in bodies):
            self.violation(f"{id} was cancelled without its event")

    def _state_changed(self, id: str, old: Values | None, new: Values | None) -> None:
        if new is None:
            self.violation(f"the decision on {id} was deleted")
        elif old is not None and new["version"] <= old["version"]:
            self.violation(f"{id} was decided twice")

    def _result_accepted(self, key: str, changes: list[Change]) -> None:
        id, version = _subject(key)
        order = _after(self._orders, "orders", id, changes)
        if order is None or (version > 1 and order["status"] == "pending"):
            self.violation(f"{key} was accepted without its effect")

    def _order_accepted(self, key: str, changes: list[Change]) -> None:
        id, version = _subject(key)
        state = _after(self._states, "processing_states", id, changes)
        if state is None or state["version"] < version:
            self.violation(f"{key} was accepted without its effect")

    def _stored(
        self,
        database: str,
        table: str,
        key: Any,
        old: Values | None,
        new: Values | None,
        changes: list[Change],
    ) -> None:
        if table == "outbox":
            if old is None and new is not None:
                self._same_body(new)
            elif new is None and old is not None and old["message_id"] not in self._confirmed:
                if not any(change[0] == "dead_letter_queue" for change in changes):
                    self.violation(f"{old['message_id']} left the outbox without a confirm")
            elif old and new and new["attempts"] > old["attempts"] and new["last_error"] != REJECTION:
                self.violation(f"{new['message_id']} counts an attempt because of: {new['last_error']}")
        elif table == "retry_queue" and old is None and new is not None:
            if not self._may_be_retried(key):
                self.violation(f"{key} waits for a retry in {database} because of: {new['last_error']}")
        elif table == "dead_letter_queue" and new is not None and not self._is_poison(database, new):
            self.violation(f"{key} is a dead letter of {database} because of: {new['failure_reason']}")

    def _same_body(self, event: Values) -> None:
        body = msgspec.json.decode(event["payload"])
        key = f"{event['event_type']}:{body['order_id']}:{body['version']}"
        if self._bodies.setdefault(key, event["payload"]) != event["payload"]:
            self.violation(f"{key} has a second content: {event['payload']}")

    def _may_be_retried(self, key: str) -> bool:
        id, _ = _subject(key)
        unknown = key.startswith(PROCESSED) and id not in self._orders.orders.rows
        return id.startswith(CURSED) or unknown or (key.startswith(CREATED) and id in self._may_wait)

    # poison

    def expect_letter(self, routing_key: str, letter: str, message_id: str) -> None:
        database = "states" if routing_key == CREATED else "orders"
        self._letters[database, letter] = message_id

    def _is_poison(self, database: str, letter: Values) -> bool:
        names = (letter["event_key"], letter["message_id"])
        return any((database, name) in self._letters for name in names)

    # what the broker saw

    def published(self, message: Message, outcome: PublishOutcome | None) -> None:
        self._trace.events += 1
        self._published[message.message_id] += 1
        unwanted = outcome is PublishOutcome.UNROUTABLE and message.routing_key == CANCELLED
        if outcome is PublishOutcome.CONFIRMED or unwanted:
            for message_id in self._contained(message):
                self._confirmed.add(message_id)
        if self._plan.calm and self._published[message.message_id] > 1:
            self.violation(f"{message.message_id} was published twice, and nothing had gone wrong")

    def lost(self, message: Message) -> None:
        self._lost.add(message.message_id)

    def acknowledged(self, queue: str, message: Message) -> None:
        self._trace.events += 1
        for body in _events(message.body):
            self._settled(message, body)

    def _contained(self, message: Message) -> list[str]:
        """The ids of all rows in it: an array has the id of its first."""
        if not message.body.startswith(b"["):
            return [message.message_id]
        bodies = {bytes(body) for body in _events(message.body)}
        tables = self._states if message.routing_key == PROCESSED else self._orders
        rows = (row.values for row in tables.outbox.rows.values())
        found = [values["message_id"] for values in rows if values and values["payload"].encode() in bodies]
        return [message.message_id, *found]

    def _settled(self, message: Message, body: bytes) -> None:
        """Acknowledged means: done, or stored for later, or set aside."""
        tables = self._states if message.routing_key == CREATED else self._orders
        try:
            event = msgspec.json.decode(body)
            key = f"{message.routing_key}:{event['order_id']}:{event.get('version', 1)}"
        except (msgspec.DecodeError, TypeError, KeyError, AttributeError):
            key = ""
        if key and self._has_effect(tables, message.routing_key, key):
            return
        if key in tables.retries.rows or key in tables.letters.rows:
            return
        if any(letter["message_id"] == message.message_id for letter in tables.letters.committed()):
            return
        self.violation(f"{key or message.message_id} was acknowledged and is nowhere")

    def _has_effect(self, tables: Tables, routing_key: str, key: str) -> bool:
        id, version = _subject(key)
        if routing_key == CREATED:
            state = tables.processing_states.rows.get(id)
            return state is not None and state.values is not None and state.values["version"] >= version
        order = tables.orders.rows.get(id)
        if order is None or order.values is None:
            return False
        return bool(order.values["status"] != "pending" or version <= order.values["version"])

    # at rest

    def at_rest(self) -> bool:
        return not self._unfinished()

    def judge(self) -> None:
        for problem in self._unfinished():
            self.violation(problem)

    def _unfinished(self) -> list[str]:
        problems: list[str] = []
        for tables in (self._orders, self._states):
            problems += [f"outbox: {row['message_id']}" for row in tables.outbox.committed()]
            problems += [f"retries: {row['event_key']}" for row in tables.retries.committed()]
        for queue in self._broker.queues.values():
            waiting = len(queue.waiting) + sum(len(each.unacknowledged) for each in queue.consumers)
            if waiting:
                problems.append(f"{queue.name} has {waiting} messages")
        for id in self.accepted:
            problems += self._order_problem(id)
        problems += self._letter_problems()
        return problems

    def _order_problem(self, id: str) -> list[str]:
        row, decided = self._orders.orders.rows.get(id), self._states.processing_states.rows.get(id)
        order = row.values if row else None
        decision = decided.values if decided else None
        if order is None:
            return [f"{id} was accepted and is gone"]
        if order["status"] == "pending":
            return [f"{id} was accepted and is still pending"]
        if order["version"] != 2:
            return [f"{id} has version {order['version']}"]
        if order["status"] == "cancelled":
            return []  # whatever was decided about it
        if decision is None or (decision["status"], decision["fail_reason"]) != (
            order["status"],
            order["fail_reason"],
        ):
            return [f"{id} is {order['status']}, and decided was {decision}"]
        if not _fits(order["fail_reason"], parsed_order(int(id.removeprefix("o-")), self.accepted[id])):
            return [f"{id} is {order['status']} for {order['fail_reason']!r}, against the rules"]
        return []

    def _letter_problems(self) -> list[str]:
        problems: list[str] = []
        for (database, name), message_id in self._letters.items():
            tables = self._orders if database == "orders" else self._states
            letters = tables.letters.committed()
            there = any(name in (letter["event_key"], letter["message_id"]) for letter in letters)
            if not there and message_id not in self._lost:
                problems.append(f"the poison {name} is no dead letter of {database}")
        return problems


def _subject(key: str) -> tuple[str, int]:
    _, _, rest = key.partition(":")
    id, _, version = rest.rpartition(":")
    return id, int(version) if version.isdigit() else 0


def _tells_of(id: str, order: Values, change: Change) -> bool:
    """Whether `change` writes the event of this order, with the contents that are stored."""
    table, _, old, new = change
    if table != "outbox" or old is not None or new is None:
        return False
    body = msgspec.json.decode(new["payload"])
    items = msgspec.json.decode(order["items"])
    return bool(
        (body["order_id"], body["items"], Decimal(str(body["amount"]))) == (id, items, order["amount"])
    )


def _fits(fail_reason: str | None, order: Order) -> bool:
    """Whether the rules decide so about this order, and not about one of its neighbours."""
    skus = {item.sku for item in order.items}
    reasons = [rule.fail_reason for rule in BUILT_IN_RULES if not rule.skus.isdisjoint(skus)]
    return fail_reason == reasons[0] if reasons else fail_reason in (None, RANDOM_FAILURE)


def _after(tables: Tables, table: str, id: str, changes: list[Change]) -> Values | None:
    for name, key, _, new in changes:
        if name == table and key == id:
            return new
    row = (tables.orders if table == "orders" else tables.processing_states).rows.get(id)
    return row.values if row else None


def _events(body: bytes) -> list[bytes]:
    if not body.startswith(b"["):
        return [body]
    return [bytes(element) for element in msgspec.json.decode(body, type=list[msgspec.Raw])]
