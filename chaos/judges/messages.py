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
    yield from _one_content(observed.order_changes, "order.created")
    yield from _one_content(observed.processor_changes, "order.processed")
    yield from _seen(observed)
    yield from _dead(observed)


def _one_content(changes: Sequence[Change], event_type: str) -> Iterator[Violation]:
    contents: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        if change.relation == "outbox" and change.operation == "INSERT" and change.new:
            if change.new["event_type"] != event_type:
                yield Violation(Kind.WRONG, "unexpected event", event_type, change.new["event_type"])
            contents[_name(change.new["payload"])].add(_canonical(change.new["payload"]))
    for name, found in contents.items():
        if len(found) > 1:
            yield Violation(Kind.DUPLICATED, f"two contents of {event_type}", name, " ≠ ".join(sorted(found)))


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
