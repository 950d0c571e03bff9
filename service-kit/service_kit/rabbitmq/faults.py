"""What can end a channel or a connection. All of them are outages: they count against no message."""

from service_kit.errors import BrokerUnavailable

_CONTENT_FAULT_CODES = frozenset({311, 406})
_BY_PUBLISH = frozenset({(60, 40), (0, 0)})


class ConnectionLost(BrokerUnavailable):
    """The connection to RabbitMQ was lost."""


class ClosedByBroker(ConnectionLost):
    """RabbitMQ closed the connection; `code` is its reply code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"RabbitMQ closed the connection: {code} {text}")
        self.code = code
        self.text = text


class ProtocolError(ConnectionLost):
    """The peer sent bytes that are not AMQP 0-9-1."""


class ChannelClosed(BrokerUnavailable):
    """RabbitMQ closed the channel; `code` is its reply code, `method` the class and method it blames."""

    def __init__(self, code: int, text: str, method: tuple[int, int] = (0, 0)) -> None:
        super().__init__(f"RabbitMQ closed the channel: {code} {text}")
        self.code = code
        self.method = method

    @property
    def blames_a_message(self) -> bool:
        """Whether the content of a published message was the reason."""
        return self.code in _CONTENT_FAULT_CODES and self.method in _BY_PUBLISH
