"""The kit's errors. One base; an outage is told apart from a fault of the message itself."""


class ServiceKitError(Exception):
    """Base of every error that the kit raises."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or type(self).__name__).partition("\n")[0]


class Unavailable(ServiceKitError):
    """A server we depend on does not answer.

    An outage: it costs time and counts no attempt against any message.
    """


class BrokerUnavailable(Unavailable):
    """The broker does not answer, or the connection to it was lost."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or cannot take this transaction now."""


class MessageRejected(ServiceKitError):
    """The broker closed the channel because of a message in the published batch.

    Which one is not known when the batch held more than one; nothing of the batch counts as published.
    """


class MalformedEvent(ServiceKitError):
    """The event cannot be understood: a fault of the message itself."""


class StartupError(ServiceKitError):
    """The service cannot start; the text is one line that says what is wrong and what to do.

    `exit_code` is 2 for a wrong setting and 1 for everything else.
    """

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code
