"""Signatures by the official verifier, ids of messages, and when an attempt is made again."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from order_service.application.webhooks import (
    RETRY_AFTER_SECONDS_MAX,
    RETRY_SECONDS,
    Answer,
    Delivery,
    Subscription,
    message_id,
    new_secret,
    retry_delay_seconds,
    shown_secret,
    signed_headers,
)
from order_service.domain.event import EventType, OrderEvent
from order_service.domain.order import OrderId, OrderSummary


def a_delivery(*secrets: bytes) -> Delivery:
    return Delivery(
        id=1, endpoint_id=1, url="", secrets=secrets, message_id="msg_1", body='{"a":"é🍕"}', attempts=0
    )


def an_event(order_id: str = "o-1", version: int = 1) -> OrderEvent:
    order = OrderSummary(
        order_id=OrderId(order_id), customer_id="c-1", total_amount=Decimal(1), version=version
    )
    return OrderEvent(position=7, type=EventType.CREATED, at=datetime.now(UTC), order=order)


def test_the_official_verifier_accepts_what_is_signed_and_nothing_else() -> None:
    secret = new_secret()
    delivery = a_delivery(secret)
    headers = signed_headers(delivery, int(time.time()))
    assert Webhook(shown_secret(secret)).verify(delivery.body, headers) == {"a": "é🍕"}
    with pytest.raises(WebhookVerificationError):
        Webhook(shown_secret(secret)).verify(delivery.body + " ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(shown_secret(secret)).verify(delivery.body, {**headers, "webhook-id": "msg_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(shown_secret(new_secret())).verify(delivery.body, headers)


def test_during_a_rotation_both_secrets_verify() -> None:
    new, old = new_secret(), new_secret()
    headers = signed_headers(a_delivery(new, old), int(time.time()))
    for secret in (new, old):
        Webhook(shown_secret(secret)).verify(a_delivery().body, headers)


def test_a_message_is_known_by_its_event_whoever_is_told_and_when() -> None:
    assert message_id(an_event()) == message_id(an_event())
    assert len({message_id(event) for event in (an_event(), an_event("o-2"), an_event(version=2))}) == 3


@pytest.mark.parametrize(("failed", "seconds"), list(enumerate(RETRY_SECONDS, 1)))
def test_attempts_follow_the_schedule_with_jitter(failed: int, seconds: float) -> None:
    delays = {retry_delay_seconds(failed, Answer(status=500), Random(seed)) for seed in range(200)}
    assert len(delays) > 100
    assert all(delay and 0.9 * seconds <= delay <= 1.1 * seconds for delay in delays)


def test_after_the_tenth_attempt_there_is_none_and_none_after_gone() -> None:
    assert retry_delay_seconds(10, Answer(status=500), Random(0)) is None
    assert retry_delay_seconds(1, Answer(status=410), Random(0)) is None


@pytest.mark.parametrize(("asked", "at_least"), [(60.0, 60.0), (1e9, RETRY_AFTER_SECONDS_MAX), (1.0, 4.5)])
def test_an_endpoint_may_ask_for_more_time_but_not_for_ever(asked: float, at_least: float) -> None:
    delay = retry_delay_seconds(1, Answer(status=429, retry_after_seconds=asked), Random(0))
    assert delay is not None
    assert at_least <= delay <= max(asked, 5.5)
    assert delay <= RETRY_AFTER_SECONDS_MAX


def test_an_endpoint_is_told_of_what_it_wants() -> None:
    def takes(since: int = 0, types: list[str] | None = None, customers: list[str] | None = None) -> bool:
        return Subscription(
            endpoint_id=1, event_types=types or [], customer_ids=customers or [], since=since
        ).takes(an_event())

    assert takes()
    assert takes(types=["order.created"], customers=["c-1", "c-2"])
    assert not takes(since=7)
    assert not takes(types=["order.done"])
    assert not takes(customers=["c-2"])
