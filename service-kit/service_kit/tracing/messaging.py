"""Names and attributes of spans about messages: OpenTelemetry's semantic conventions for RabbitMQ."""

from collections.abc import Mapping
from dataclasses import dataclass

MESSAGE_ID = "messaging.message.id"
MESSAGE_COUNT = "messaging.batch.message_count"
"""How many were published with one write, or handled in one transaction."""

# Of ours: what the conventions have no name for.
EVENTS = "events"
"""How many events share a message, and with it a span."""
WAIT_SECONDS = "outbox.wait_seconds"
"""From the commit of an event to its publishing, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanForm:
    """What all spans of one operation on one destination have in common."""

    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Messaging:
    """`system` is the broker's kind, `exchange` where events are published to."""

    system: str
    exchange: str

    def publish(self, routing_key: str) -> SpanForm:
        return self._form("publish", "send", routing_key, f"{self.exchange}:{routing_key}")

    def process(self, routing_key: str, queue: str) -> SpanForm:
        return self._form("process", "process", routing_key, f"{self.exchange}:{routing_key}:{queue}")

    def _form(self, operation: str, operation_type: str, routing_key: str, destination: str) -> SpanForm:
        attributes = {
            "messaging.system": self.system,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation_type,
            "messaging.destination.name": destination,
            "messaging.rabbitmq.destination.routing_key": routing_key,
        }
        return SpanForm(name=f"{operation} {destination}", attributes=attributes)
