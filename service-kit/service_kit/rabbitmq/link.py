"""A connection that is opened again whenever it ends, for ever."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from service_kit.errors import BrokerUnavailable
from service_kit.rabbitmq.address import Address
from service_kit.rabbitmq.connection import Connection
from service_kit.rabbitmq.handshake import connect
from service_kit.retry import OUTAGE_BACKOFF, pauses

CLOSED = "the connection to RabbitMQ was closed on our side"

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What every connection of one broker shares."""

    address: Address
    heartbeat_seconds: int
    topology_interval_seconds: float
    random: Random


class Session(Protocol):
    """What a link carries: the publisher, or one subscription."""

    def new_connection(self) -> Connection:
        """A connection object, not yet connected, that reports to this session."""
        ...

    async def serve(self, connection: Connection, on_ready: Callable[[], None]) -> None:
        """Set `connection` up, call `on_ready`, and stay until it ends: then raise BrokerUnavailable."""
        ...

    def lost(self, reason: str) -> None:
        """The connection is gone, whether it was ready or not. Harmless when repeated."""
        ...


class Link:
    """Runs one session over one connection after another, with backoff and jitter between attempts.

    Logs `broker_connected` when the session is ready, `broker_lost` when it is no more, and
    `broker_unreachable` for the first of a row of failed attempts.
    """

    def __init__(self, session: Session, settings: LinkSettings, *, name: str) -> None:
        self._session = session
        self._settings = settings
        self._log = log.bind(connection=name)
        self._name = name
        self._ready = False
        self._outage_logged = False
        self._pauses = pauses(OUTAGE_BACKOFF, settings.random)
        self.problem: str | None = "RabbitMQ: not connected yet"

    async def run(self) -> None:
        """Until cancelled; the connection is then closed politely, within 3 s."""
        try:
            while True:
                await self._attempt()
                await asyncio.sleep(next(self._pauses))
        finally:
            self.problem = CLOSED
            self._session.lost(CLOSED)

    async def _attempt(self) -> None:
        try:
            await self._once()
        except BrokerUnavailable as error:
            self._note(str(error))
        except Exception as error:
            self._log.error("broker_session_failed", exc_info=error)
            self._note(f"RabbitMQ: unexpected {error!r}")

    async def _once(self) -> None:
        connection = await self._connect()
        try:
            await self._session.serve(connection, self._on_ready)
        except BrokerUnavailable as error:
            # Before the farewell, which may take its time.
            self._note(str(error))
            raise
        finally:
            await connection.close()

    async def _connect(self) -> Connection:
        hosts = self._settings.address.hosts
        failures: list[str] = []
        for host in self._settings.random.sample(hosts, len(hosts)):
            try:
                return await connect(
                    self._settings.address,
                    host,
                    self._session.new_connection,
                    name=self._name,
                    heartbeat_seconds=self._settings.heartbeat_seconds,
                )
            except BrokerUnavailable as error:
                failures.append(str(error))
        raise BrokerUnavailable("cannot connect to RabbitMQ at " + "; ".join(sorted(failures)))

    def _on_ready(self) -> None:
        if not self._ready:
            self._log.info("broker_connected")
        self._ready, self._outage_logged, self.problem = True, False, None
        self._pauses = pauses(OUTAGE_BACKOFF, self._settings.random)

    def _note(self, reason: str) -> None:
        self.problem = reason
        self._session.lost(reason)
        if self._ready:
            self._log.warning("broker_lost", reason=reason)
        elif not self._outage_logged:
            self._log.warning("broker_unreachable", reason=reason)
        self._ready, self._outage_logged = False, True
