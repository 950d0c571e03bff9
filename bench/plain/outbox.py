"""The usual relay: look each `poll_seconds`, publish event by event, and commit each."""

import asyncio
import logging
from datetime import UTC, datetime

import aio_pika
from sqlalchemy import select

from bench.plain.broker import publish
from bench.plain.models import OutboxEvent, Sessions

_BATCH_EVENTS = 100


async def relay(sessions: Sessions, url: str, exchange_name: str, poll_seconds: float) -> None:
    """Without end. It rests only when it found nothing, or when the broker refused."""
    while True:
        try:
            published = await _publish_batch(sessions, url, exchange_name)
        except (aio_pika.exceptions.AMQPError, OSError):
            logging.exception("publishing failed")
            published = 0
        if not published:
            await asyncio.sleep(poll_seconds)


async def _publish_batch(sessions: Sessions, url: str, exchange_name: str) -> int:
    async with sessions() as session:
        unpublished = select(OutboxEvent).where(OutboxEvent.published_at.is_(None))
        events = (await session.scalars(unpublished.order_by(OutboxEvent.id).limit(_BATCH_EVENTS))).all()
        for event in events:
            await publish(url, exchange_name, event.event_type, event.payload)
            event.published_at = datetime.now(UTC)
            await session.commit()
    return len(events)
