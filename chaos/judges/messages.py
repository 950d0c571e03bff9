"""Events: one content a version, all published, none left, and set aside exactly what was poison."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chaos.observed import Change, Observed
from chaos.violations import Kind, Violation

Content = dict[str, Any]


def judge(observed: Observed) -> Iterator[Violation]:
    if not observed.settled:
        yield Violation(Kind.LOST, "did not settle", "the whole", str(observed.left))
    for place, count in observed.left.items():
        if count:
            yield Violation(Kind.LOST, "work left", place, str(count))
    yield from _one_content(observed.order_changes, "order.created", "order.cancelled")
    yield from _one_content(observed.processor_changes, "order.processed")
    yield from _told_of_cancellations(observed.order_changes)
    yield from _seen(observed)
    yield from _dead(observed)


def _one_content(changes: Sequence[Change], *event_types: str) -> Iterator[Violation]:
    contents: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in _written(changes):
        if event["event_type"] not in event_types:
            yield Violation(Kind.WRONG, "unexpected event", " ".join(event_types), event["event_type"])
        contents[event["event_type"], _name(event["payload"])].add(_canonical(event["payload"]))
    for (event_type, name), found in contents.items():
        if len(found) > 1:
            yield Violation(Kind.DUPLICATED, f"two contents of {event_type}", name, " ≠ ".join(sorted(found)))


def _told_of_cancellations(changes: Sequence[Change]) -> Iterator[Violation]:
    events = [event for event in _written(changes) if event["event_type"] == "order.cancelled"]
    told = Counter(_name(event["payload"]) for event in events)
    rows = [change.new for change in changes if change.relation == "orders" and change.old and change.new]
    cancelled = Counter({_name(row): 1 for row in rows if row["status"] == "cancelled"})
    for name in (told - cancelled) + (cancelled - told):
        detail = f"{told[name]} events for {cancelled[name]} cancellations"
        yield Violation(Kind.WRONG, "cancellations and their events differ", name, detail)


def _written(changes: Sequence[Change]) -> Iterator[Content]:
    """The events that were written to an outbox."""
    for change in changes:
        if change.relation == "outbox" and change.operation == "INSERT" and change.new:
            yield change.new


def _seen(observed: Observed) -> Iterator[Violation]:
    """What the bystander saw: one content a version, and every event that left the outbox."""
    contents: dict[str, set[str]] = defaultdict(set)
    ids: set[str] = set()
    foreign = {body for _, body in observed.poison}
    for message in observed.seen:
        ids.add(message.message_id or "")
        if message.body not in foreign:
            content = msgspec.json.decode(message.body)
            contents[_name(content)].add(_told(content))
    for name, found in contents.items():
        if len(found) > 1:
            yield Violation(Kind.DUPLICATED, "order.processed was seen with two contents", name, str(found))
    for change in observed.processor_changes:
        gone = change.old if change.relation == "outbox" and change.operation == "DELETE" else None
        if gone and gone["message_id"] not in ids:
            name = _name(gone["payload"])
            yield Violation(Kind.LOST, "event left the outbox and was never published", name)


def _dead(observed: Observed) -> Iterator[Violation]:
    sent, dead = Counter(set(observed.poison)), Counter(observed.dead)
    for key, body in (sent - dead) if not observed.loses_messages else ():
        yield Violation(Kind.LOST, "poison is not among the dead letters", key, repr(body))
    for key, body in dead - sent:
        rule = "dead letter twice" if (key, body) in sent else "dead letter that was no poison"
        yield Violation(Kind.WRONG, rule, key, repr(body))


def _name(content: Content) -> str:
    return f"{content['order_id']}:{content['version']}"


def _canonical(content: Content) -> str:
    return msgspec.json.encode(content, order="sorted").decode()


def _told(content: Content) -> str:
    """What every version of the services reads from it."""
    return _canonical({name: content.get(name) for name in ("order_id", "status", "fail_reason", "version")})
