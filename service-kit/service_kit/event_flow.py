"""The background services that every service with an outbox and a queue runs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random
from typing import Any

from service_kit.announcing import Announcing
from service_kit.back_pressure import BackPressure
from service_kit.broker import Broker, Subscription
from service_kit.consumer import Consumer, Handler
from service_kit.consuming import Consuming, PausableSource
from service_kit.errors import StartupError
from service_kit.http.health import Check
from service_kit.instance import instance_name
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.observability.metrics import Metrics
from service_kit.postgres.database import Database
from service_kit.postgres.failures import PostgresFailures
from service_kit.postgres.housekeeping import (
    BacklogWatch,
    InboxCleaner,
    OutboxVacuum,
    PublicationsCleaner,
)
from service_kit.postgres.migrate import Migrations
from service_kit.postgres.outbox import PostgresOutbox
from service_kit.rabbitmq import RabbitBroker
from service_kit.relay import Relay, RelaySettings
from service_kit.retry import RetryPolicy
from service_kit.settings import Settings
from service_kit.sources import BrokerSource, RetrySource
from service_kit.tracing.publishing import TracedPublishing
from service_kit.tracing.tracer import Tracer

PREFETCH = 1_000
RELAY_LAG_SECONDS_MAX = 30.0
_CONNECTIONS_AT_START = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much at a time, and how often: good for every installation, so no settings of theirs."""

    relay: RelaySettings = RelaySettings()
    batch_messages: int = 500
    retry_policy: RetryPolicy = RetryPolicy()
    retry_poll_seconds: float = 1.0
    lease_seconds: float = 120.0
    cleaning_seconds: float = 60.0
    vacuum_seconds: float = 5.0
    watching_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class EventFlow:
    """One service's way of events: outbox → broker, and queue or due retry → handler.

    `handler` serves two consumers at the same time. `subject_field` is what events and log lines call the
    subject. `back_pressure` is for whoever writes to the outbox more than the queue makes it write. Events of
    `needs_no_reader` are published whether or not a queue takes them. While `consuming` is paused neither
    consumer takes anything. `retries_due` is for whoever makes a retry due at once.
    """

    settings: Settings
    database: Database
    broker: Broker
    subscription: Subscription
    handler: Handler[Any]
    wakeup: Wakeup
    metrics: Metrics
    random: Random
    pace: Pace = Pace()
    back_pressure: BackPressure = field(default_factory=BackPressure)
    consuming: Consuming = field(default_factory=Consuming)
    retries_due: Wakeup = field(default_factory=Wakeup)
    subject_field: str = "subject"
    needs_no_reader: Collection[str] = ()
    tracer: Tracer | None = None

    def background_services(self) -> list[BackgroundService]:
        pace, outbox, failures = self.pace, self._outbox(), PostgresFailures(self.database)
        queue = BrokerSource(self.subscription, failures)
        retries = RetrySource(
            failures,
            poll_seconds=pace.retry_poll_seconds,
            lease_seconds=pace.lease_seconds,
            wakeup=self.retries_due,
        )
        return [
            self.relay,
            *(
                Consumer(
                    source,
                    self.handler,
                    metrics=self.metrics,
                    batch_size=pace.batch_messages,
                    retry_policy=pace.retry_policy,
                    subject_field=self.subject_field,
                    random=self.random,
                )
                for source in (
                    PausableSource(queue, self.consuming, self.subscription),
                    PausableSource(retries, self.consuming),
                )
            ),
            InboxCleaner(
                self.database,
                retention_days=self.settings.inbox_retention_days,
                interval_seconds=pace.cleaning_seconds,
                random=self.random,
            ),
            PublicationsCleaner(
                self.database,
                retention_days=self.settings.publications_retention_days,
                interval_seconds=pace.cleaning_seconds,
                random=self.random,
            ),
            OutboxVacuum(self.database, interval_seconds=pace.vacuum_seconds, random=self.random),
            BacklogWatch(
                self.database,
                outbox,
                metrics=self.metrics,
                queued=self.subscription.waiting,
                interval_seconds=pace.watching_seconds,
                random=self.random,
            ),
        ]

    @cached_property
    def relay(self) -> Relay:
        publisher = Announcing(self.broker.publisher(), self.needs_no_reader)
        return Relay(
            self._outbox(),
            publisher,
            wakeup=self.wakeup,
            metrics=self.metrics,
            settings=replace(self.pace.relay, events_per_message=self.settings.events_per_message),
            subject_field=self.subject_field,
            back_pressure=self.back_pressure,
            random=self.random,
            publish=TracedPublishing(publisher, self.tracer) if self.tracer else None,
        )

    def waits_for(self, event_type: str) -> str:
        """What an event of that type in the outbox waits for, in words for an operator."""
        return self.broker.problem() or self.relay.waits_for(event_type)

    def show_connections(self) -> None:
        """Let the metrics tell, whenever they are read, of the broker, of the pool, and of a pause."""
        metrics, database, broker = self.metrics, self.database, self.broker
        metrics.consuming_paused.set_function(lambda: float(self.consuming.paused))
        metrics.broker_connected.set_function(lambda: float(broker.problem() is None))
        metrics.database_connections_max.set(database.connections_max)
        metrics.database_connections.labels("idle").set_function(lambda: database.idle_connections)
        metrics.database_connections.labels("used").set_function(lambda: database.used_connections)

    async def prepare(self, migrations: Migrations) -> None:
        """Bring the database to its newest schema, and open what the first order needs.

        Raises DatabaseUnavailable, and StartupError for what waiting cannot mend.
        """
        await migrations.prepare(self.settings.db_dsn, migrate=self.settings.migrate)
        await self.database.open_connections(_CONNECTIONS_AT_START)

    def checks(self) -> Mapping[str, Check]:
        return {
            "database": self.database.problem,
            "broker": self._broker_problem,
            "relay": self._relay_problem,
        }

    async def _broker_problem(self) -> str | None:
        return self.broker.problem()

    async def _relay_problem(self) -> str | None:
        lag_seconds = await self._outbox().lag_seconds()
        if lag_seconds <= RELAY_LAG_SECONDS_MAX:
            return None
        return f"the oldest event has been waiting to be published for {lag_seconds:.0f} s"

    def _outbox(self) -> PostgresOutbox:
        return PostgresOutbox(
            self.database,
            random=self.random,
            instance=instance_name(self.settings),
            subject_field=self.subject_field,
        )


def rabbit_broker(settings: Settings) -> RabbitBroker:
    """The broker that the settings name; entering it connects. Raises StartupError."""
    try:
        return RabbitBroker(
            settings.rabbitmq_url,
            exchange=settings.exchange,
            queue_type=settings.queue_type,
            connection_name=settings.service_name,
        )
    except ValueError as error:
        raise StartupError(f"APP__RABBITMQ_URL: {error}", exit_code=2) from error
