"""Webhooks by the Standard Webhooks specification 1.0: who is told of what, how it is signed, when again."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import new as hmac
from random import Random
from secrets import token_bytes

from order_service.domain.event import OrderEvent

RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After the first attempt, the second …; after the tenth there is none: three days in all."""
JITTER = 0.1
RETRY_AFTER_SECONDS_MAX = 86_400.0
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """An enabled endpoint: which events it is told of, from a position of the log on. No filter means all."""

    endpoint_id: int
    event_types: Sequence[str]
    customer_ids: Sequence[str]
    since: int

    def takes(self, event: OrderEvent) -> bool:
        return (
            event.position > self.since
            and (not self.event_types or event.type in self.event_types)
            and (not self.customer_ids or event.order.customer_id in self.customer_ids)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message to be sent now; `secrets` are all that it is signed with."""

    id: int
    endpoint_id: int
    url: str
    secrets: Sequence[bytes]
    message_id: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of an attempt: the status if there was an answer, else what went wrong."""

    status: int | None = None
    error: str | None = None
    retry_after_seconds: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The endpoint wants to be told no more."""
        return self.status == 410

    def words(self) -> str:
        if self.status is None:
            return self.error or "it does not answer"
        if 300 <= self.status < 400:
            return f"it answered {self.status}; redirects are not followed"
        return f"it answered {self.status}"


def message_id(event: OrderEvent) -> str:
    """The same for everyone who is told of the event, and for ever: receivers know repetitions by it."""
    key = f"{event.type}:{event.order.order_id}:{event.order.version}"
    return f"msg_{sha256(key.encode()).hexdigest()[:32]}"


def new_secret() -> bytes:
    return token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    return f"whsec_{b64encode(secret).decode()}"


def signed_headers(delivery: Delivery, timestamp: int) -> dict[str, str]:
    """`timestamp` is in Unix seconds, of the attempt."""
    content = f"{delivery.message_id}.{timestamp}.{delivery.body}".encode()
    digests = (hmac(secret, content, sha256).digest() for secret in delivery.secrets)
    return {
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests),
    }


def retry_delay_seconds(failed_attempts: int, answer: Answer, random: Random) -> float | None:
    """How long to wait after so many failed attempts, and at least as long as the endpoint asks for.

    None when there is no further attempt.
    """
    if answer.gone or failed_attempts > len(RETRY_SECONDS):
        return None
    delay = RETRY_SECONDS[failed_attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)
    return max(delay, min(answer.retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX))
