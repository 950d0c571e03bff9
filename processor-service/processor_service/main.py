"""The composition root: what processor-service is made of, and its command line."""

import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from processor_service.api.order_route import order_route
from processor_service.api.rules_routes import rules_routes
from processor_service.commands import add_rules_commands, run_rules_command
from processor_service.consumers.order_created import (
    ORDER_CREATED,
    OrderCreated,
    OrderCreatedHandler,
    foresee_created,
    order_of,
)
from processor_service.domain.rules import BUILT_IN_RULES, Ruleset
from processor_service.infrastructure.decided_orders import PostgresDecidedOrders
from processor_service.infrastructure.history import PostgresOrderHistories
from processor_service.infrastructure.metrics import ProcessorMetrics
from processor_service.infrastructure.past_orders import PostgresPastOrders
from processor_service.infrastructure.policies import (
    CallablePolicy,
    FixedRules,
    MeasuredPolicy,
    RulesetPolicy,
    load_policy,
)
from processor_service.infrastructure.rules_file import RulesFile, read_rules
from processor_service.infrastructure.traced_policy import TracedPolicy
from processor_service.settings import ProcessorSettings
from service_kit.admin.api import AdminApi
from service_kit.broker import Broker
from service_kit.cli import Commands, OwnCommand, run
from service_kit.consumer import Handler
from service_kit.consuming import Consuming
from service_kit.event_flow import PREFETCH, EventFlow, rabbit_broker
from service_kit.guard import Guard, http_limits
from service_kit.http.documents import document_routes
from service_kit.instance import instance_name
from service_kit.key_commands import key_commands
from service_kit.lifecycle import Wakeup
from service_kit.observability.trace_context import continued_trace
from service_kit.postgres.database import Database
from service_kit.postgres.dead_letters import dead_letters_of
from service_kit.postgres.migrate import Migrations
from service_kit.service import Service, ServiceParts, serve_until_stopped
from service_kit.tracing.handling import TracedHandler
from service_kit.tracing.settings import tracer_for
from service_kit.tracing.tracer import Tracer

MIGRATIONS = Migrations("processor_service:migrations")
ORDER_ID = "order_id"
"""What events, and lines of the log, call the order that they are about."""

ConfiguredPolicy = RulesetPolicy | CallablePolicy


@asynccontextmanager
async def processor_service(
    settings: ProcessorSettings,
    broker: Broker,
    policy: ConfiguredPolicy,
    *,
    open_on_loopback: bool = False,
    tracer: Tracer | None = None,
) -> AsyncIterator[ServiceParts]:
    """The parts of the service on an open `broker`; the database is looked for when it is first needed.

    `open_on_loopback`: without a key the admin API is open to this machine.
    """
    random, metrics, wakeup = Random(), ProcessorMetrics(), Wakeup()
    instance = instance_name(settings)
    rules_file = _rules_file(settings, policy, metrics, random)
    queue = f"{settings.service_name}.{ORDER_CREATED}"
    deciding = MeasuredPolicy(TracedPolicy(policy, tracer) if tracer else policy, metrics.decision_seconds)
    continued = tracer.continued if tracer else continued_trace
    async with (
        Database(settings.db_dsn, application_name=settings.service_name) as database,
        broker.subscribe(queue, [ORDER_CREATED], prefetch=PREFETCH) as subscription,
    ):
        decided = PostgresDecidedOrders(database, wakeup, random, instance=instance, continued=continued)

        handler: Handler[OrderCreated] = OrderCreatedHandler(deciding, decided, metrics.count_outcome)
        if tracer is not None:
            handler = TracedHandler(
                handler, tracer, routing_key=ORDER_CREATED, queue=queue, subject_field=ORDER_ID
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
            tracer=tracer,
            consuming=Consuming(known=False),
        )
        guard = Guard(settings, database, open_on_loopback=open_on_loopback)
        admin = AdminApi(flow, guard, partial(foresee_created, decided=decided))
        histories = PostgresOrderHistories(
            database, service=settings.service_name, subject_field=ORDER_ID, waits_for=flow.waits_for
        )
        flow.show_connections()

        async def prepare() -> None:
            await flow.prepare(MIGRATIONS)
            await guard.require_keys()

        yield ServiceParts(
            host=settings.host,
            port=settings.port,
            metrics=metrics,
            routes=[
                *admin.routes(),
                order_route(histories),
                *rules_routes(
                    rules_file or FixedRules(policy),
                    PostgresPastOrders(database),
                    order_of,
                    success_rate=settings.success_rate,
                    audit=admin.audit,
                ),
                *document_routes("processor_service.api"),
            ],
            access=guard.access,
            checks=flow.checks(),
            prepare=prepare,
            background_services=[
                *flow.background_services(),
                *admin.background_services(),
                *([rules_file] if rules_file else []),
            ],
            shutdown_grace_seconds=settings.shutdown_grace_seconds,
            limits=http_limits(settings),
            cors_origins=settings.cors_origins,
            tracer=tracer,
        )


def configured_policy(settings: ProcessorSettings, random: Random) -> ConfiguredPolicy:
    """The user's policy if there is one, else the rules. Raises StartupError."""
    if settings.policy:
        decide, timeout_seconds = load_policy(settings.policy), settings.policy_timeout_seconds
        return CallablePolicy(decide, name=settings.policy, timeout_seconds=timeout_seconds)
    if settings.rules_file:
        ruleset = read_rules(Path(settings.rules_file), settings.success_rate)
        return RulesetPolicy(ruleset, random, source=settings.rules_file)
    return RulesetPolicy(Ruleset(BUILT_IN_RULES, settings.success_rate), random)


def _rules_file(
    settings: ProcessorSettings, policy: ConfiguredPolicy, metrics: ProcessorMetrics, random: Random
) -> RulesFile | None:
    """What watches the file that the rules came from, if they came from one."""
    if settings.rules_file is None or not isinstance(policy, RulesetPolicy):
        return None
    on_problem = metrics.rules_file_broken.set
    return RulesFile(policy, Path(settings.rules_file), on_problem=on_problem, random=random)


def serve(settings: ProcessorSettings) -> Coroutine[Any, Any, None]:
    """Raises StartupError at once: the policy cannot be loaded, or a variable of OpenTelemetry is wrong."""
    policy = configured_policy(settings, Random())  # first: it may bring a provider of its own spans
    return _serve(settings, policy, tracer_for(settings, is_global=True))


async def _serve(settings: ProcessorSettings, policy: ConfiguredPolicy, tracer: Tracer | None) -> None:
    async with rabbit_broker(settings) as broker:
        parts = processor_service(settings, broker, policy, tracer=tracer)
        await serve_until_stopped(Service(settings.service_name, parts))


async def migrate(settings: ProcessorSettings) -> str:
    return f"the database is at revision {await MIGRATIONS.upgrade(settings.db_dsn)}"


def cli() -> NoReturn:
    commands = Commands(
        name="processor-service",
        description="Decides about orders and answers.",
        settings=ProcessorSettings,
        serve=serve,
        migrate=migrate,
        dead_letters=partial(dead_letters_of, subject_field=ORDER_ID),
        own=[
            key_commands(MIGRATIONS),
            OwnCommand(
                name="rules",
                help="check a ruleset; rehearse it on past orders",
                add=add_rules_commands,
                run=run_rules_command,
            ),
        ],
    )
    sys.exit(run(commands))
