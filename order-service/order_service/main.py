"""The composition root: what order-service is made of, and its command line."""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from random import Random
from typing import Any, NoReturn

import structlog

from order_console.console import NO_CONSOLE, Console, console
from order_service.api.admin_routes import order_admin_routes
from order_service.api.bulk_route import bulk_route
from order_service.api.cancel_route import cancel_route
from order_service.api.events_routes import events_routes
from order_service.api.list_route import list_route
from order_service.api.routes import order_routes
from order_service.api.schemas import encode_event
from order_service.api.timeline_route import timeline_route
from order_service.api.webhook_routes import webhook_routes
from order_service.application.create_orders import CreateOutcome, create_orders
from order_service.application.ports import CreateOrder, Finished
from order_service.consumers.order_processed import (
    ORDER_PROCESSED,
    OrderProcessed,
    OrderProcessedHandler,
    foresee_processed,
)
from order_service.domain.order import OrderId
from order_service.infrastructure.events import ORDER_CANCELLED
from order_service.infrastructure.flow import FlowSampler, flow_of
from order_service.infrastructure.history import PostgresOrderHistories
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.order_feed import OrderFeed
from order_service.infrastructure.order_log import PostgresOrderLog
from order_service.infrastructure.order_log_cleaner import OrderLogCleaner
from order_service.infrastructure.order_watch import OrderWatch
from order_service.infrastructure.processor import HttpProcessor
from order_service.infrastructure.reader import PostgresReader
from order_service.infrastructure.reconcile_now import ReconcileNow
from order_service.infrastructure.reconciler import Reconciler
from order_service.infrastructure.results import PostgresResults
from order_service.infrastructure.stuck import StuckOrders
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from order_service.infrastructure.webhook_cleaner import WebhookCleaner
from order_service.infrastructure.webhook_delivery import WebhookDispatcher, WebhookFanOut
from order_service.infrastructure.webhook_sender import WebhookSender
from order_service.infrastructure.webhook_store import PostgresWebhooks
from order_service.settings import OrderSettings
from service_kit.admin.api import AdminApi
from service_kit.broker import Broker
from service_kit.cli import Commands, run
from service_kit.consumer import Handler
from service_kit.consuming import Consuming
from service_kit.event_flow import PREFETCH, EventFlow, rabbit_broker
from service_kit.group_commit import GroupCommit
from service_kit.guard import Guard, http_limits
from service_kit.http.documents import document_routes
from service_kit.instance import instance_name
from service_kit.key_commands import key_commands
from service_kit.lifecycle import Wakeup
from service_kit.postgres.database import Database
from service_kit.postgres.dead_letters import dead_letters_of
from service_kit.postgres.migrate import Migrations
from service_kit.service import Service, ServiceParts, serve_until_stopped
from service_kit.tracing.handling import TracedHandler
from service_kit.tracing.settings import tracer_for
from service_kit.tracing.tracer import Tracer

log = structlog.stdlib.get_logger()

MIGRATIONS = Migrations("order_service:migrations")
ORDER_ID = "order_id"
"""What events, and lines of the log, call the order that they are about."""


@asynccontextmanager
async def order_service(
    settings: OrderSettings,
    broker: Broker,
    *,
    processor_url: Callable[[], str] | None = None,
    tracer: Tracer | None = None,
    open_on_loopback: bool = False,
    console: AbstractAsyncContextManager[Console] | None = None,
) -> AsyncIterator[ServiceParts]:
    """The parts of the service on an open `broker`; the database is looked for when it is first needed.

    `processor_url` tells, when it is needed, what the settings cannot know yet. `open_on_loopback`: without a
    key the admin API is open to this machine. `console`, if any, is served too.
    """
    random, metrics, wakeup = Random(), OrderMetrics(), Wakeup()
    instance = instance_name(settings)
    queue = f"{settings.service_name}.{ORDER_PROCESSED}"
    async with (
        Database(settings.db_dsn, application_name=settings.service_name) as database,
        broker.subscribe(queue, [ORDER_PROCESSED], prefetch=PREFETCH) as subscription,
        HttpProcessor(
            processor_url or (lambda: settings.processor_url),
            settings.admin_key,
            tls=settings.processor_url.startswith("https:"),
        ) as processor,
        console or nullcontext(NO_CONSOLE) as shown,
        WebhookSender(allow_private=settings.webhooks_allow_private) as sender,
    ):
        orders = PostgresIntake(database, wakeup, metrics, instance=instance)
        results = PostgresResults(database, instance=instance)
        reader = PostgresReader(database)
        watch = OrderWatch(reader, random=random)
        webhooks, written = PostgresWebhooks(database), Wakeup()
        fan_out = WebhookFanOut(database, webhooks, encode_event, written=written, random=random)
        dispatcher = WebhookDispatcher(
            webhooks, sender, fan_out, written=written, metrics=metrics, random=random
        )
        feed = OrderFeed(
            PostgresOrderLog(database),
            encode_event,
            on_advanced=fan_out.advanced,
            listened_to=lambda: bool(fan_out.subscriptions),
            random=random,
        )
        metrics.event_streams.set_function(lambda: feed.streams)

        async def commit(commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome]:
            return await create_orders(commands, orders)

        def on_finished(order: Finished) -> None:
            metrics.observe_finished(order)
            watch.finished(order.order_id)

        def on_cancelled(order_id: OrderId) -> None:
            metrics.orders_cancelled.inc()
            watch.finished(order_id)

        def unit_of_work() -> OrderUnitOfWork:
            return OrderUnitOfWork(database, wakeup, instance=instance)

        handler: Handler[OrderProcessed] = OrderProcessedHandler(results, on_finished)
        if tracer is not None:
            handler = TracedHandler(
                handler, tracer, routing_key=ORDER_PROCESSED, queue=queue, subject_field=ORDER_ID
            )

        flow = EventFlow(
            settings=settings,
            database=database,
            broker=broker,
            subscription=subscription,
            handler=handler,
            wakeup=wakeup,
            metrics=metrics,
            random=random,
            subject_field=ORDER_ID,
            needs_no_reader={ORDER_CANCELLED},
            tracer=tracer,
            consuming=Consuming(known=False),
        )
        guard = Guard(settings, database, open_on_loopback=open_on_loopback)
        admin = AdminApi(flow, guard, partial(foresee_processed, orders=orders))
        reconciler = Reconciler(
            unit_of_work(),
            after_seconds=settings.reconcile_after_seconds,
            random=random,
            on_reemitted=metrics.count_reemitted,
        )
        histories = PostgresOrderHistories(
            database, service=settings.service_name, subject_field=ORDER_ID, waits_for=flow.waits_for
        )
        admin_routes = order_admin_routes(
            flow=partial(flow_of, database),
            stuck=StuckOrders(database, processor, waits_for=flow.waits_for, paused=admin.paused),
            reconcile=ReconcileNow(database, wakeup, random, on_reemitted=metrics.count_reemitted),
        )
        sampler = FlowSampler(database, metrics.flow, instance, random=random)
        intake = GroupCommit(commit, admission=flow.back_pressure.admission)
        metrics.intake_waiting.set_function(lambda: intake.waiting)
        flow.show_connections()

        async def prepare() -> None:
            await flow.prepare(MIGRATIONS)
            await guard.require_keys()

        def end_what_waits() -> None:
            watch.end()
            feed.end()
            shown.close()

        yield ServiceParts(
            host=settings.host,
            port=settings.port,
            metrics=metrics,
            routes=[
                *order_routes(intake, orders, reader, watch, random),
                list_route(reader),
                bulk_route(intake, random),
                cancel_route(unit_of_work, reader, on_cancelled, random),
                timeline_route(histories, processor),
                *events_routes(feed, reader),
                *admin.routes(),
                *admin_routes,
                *webhook_routes(
                    webhooks,
                    allow_private=settings.webhooks_allow_private,
                    refusal=sender.refusal,
                ),
                *document_routes("order_service.api"),
                *shown.routes,
            ],
            access=guard.access,
            checks=flow.checks(),
            prepare=prepare,
            background_services=[
                *flow.background_services(),
                reconciler,
                watch,
                feed,
                fan_out,
                dispatcher,
                WebhookCleaner(database, retention_days=settings.webhooks_retention_days, random=random),
                OrderLogCleaner(database, retention_days=settings.order_log_retention_days, random=random),
                *admin.background_services(),
                sampler,
            ],
            on_drain=end_what_waits,
            shutdown_grace_seconds=settings.shutdown_grace_seconds,
            limits=http_limits(settings),
            cors_origins=settings.cors_origins,
            tracer=tracer,
        )


def serve(settings: OrderSettings) -> Coroutine[Any, Any, None]:
    """Raises StartupError at once when a variable of OpenTelemetry is wrong."""
    return _serve(settings, tracer_for(settings))


async def _serve(settings: OrderSettings, tracer: Tracer | None) -> None:
    shown = None
    if settings.console:
        if settings.admin_key is None:
            hint = "set APP__ADMIN_KEY, the same on both services: it is what opens the console"
            log.warning("console_closed", hint=hint)
        shown = console(
            order_url=lambda: service.url,
            processor_url=lambda: settings.processor_url,
            admin_key=settings.admin_key,
        )
    async with rabbit_broker(settings) as broker:
        parts = order_service(settings, broker, tracer=tracer, console=shown)
        service = Service(settings.service_name, parts)
        await serve_until_stopped(service)


async def migrate(settings: OrderSettings) -> str:
    return f"the database is at revision {await MIGRATIONS.upgrade(settings.db_dsn)}"


def cli() -> NoReturn:
    commands = Commands(
        name="order-service",
        description="Takes orders over HTTP and tells of them.",
        settings=OrderSettings,
        serve=serve,
        migrate=migrate,
        dead_letters=partial(dead_letters_of, subject_field=ORDER_ID),
        own=[key_commands(MIGRATIONS)],
    )
    sys.exit(run(commands))
