"""Messages as both brokers carry them. Standard library only.

Named tuples, as everything that is made anew for each event: a frozen dataclass takes three times as long.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

MESSAGE_BYTES_MAX = 1_572_864
"""Largest body that is read as an event: the largest order (1 MiB) and room for what the event adds to it."""


class Message(NamedTuple):
    """What is handed to a broker: one event, or a JSON array of events of one type.

    Always persistent, `application/json`, UTF-8. `headers` values are strings (such as `traceparent`).
    """

    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = MappingProxyType({})


class Delivery(NamedTuple):
    """A message as it was received; nothing is promised about its content.

    `tag` identifies it within its source. `attempt` is 1 for a message that comes from the broker, and grows
    each time the service itself tries it again, which `last_error` is the reason of.
    """

    tag: int
    routing_key: str
    body: bytes
    message_id: str | None = None
    headers: Mapping[str, object] = MappingProxyType({})
    redelivered: bool = False
    attempt: int = 1
    last_error: str | None = None
