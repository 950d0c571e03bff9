"""The two services as processes that can be started, drained, stopped and killed.

Each is put together from the real parts, as the `main` of the service does it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING, Any

from order_service.application.cancel_order import CancelOutcome, cancel_order
from order_service.application.create_orders import CreateOutcome, create_orders
from order_service.application.get_order import get_orders
from order_service.application.ports import CreateOrder
from order_service.consumers.order_processed import ORDER_PROCESSED, OrderProcessedHandler
from order_service.domain.order import Order, OrderId, OrderSummary
from order_service.infrastructure.events import ORDER_CANCELLED
from order_service.infrastructure.intake import PostgresIntake
from order_service.infrastructure.metrics import OrderMetrics
from order_service.infrastructure.reader import PostgresReader
from order_service.infrastructure.reconciler import Reconciler
from order_service.infrastructure.results import PostgresResults
from order_service.infrastructure.unit_of_work import OrderUnitOfWork
from order_service.settings import OrderSettings
from processor_service.consumers.order_created import ORDER_CREATED, OrderCreatedHandler
from processor_service.infrastructure.decided_orders import PostgresDecidedOrders
from processor_service.infrastructure.metrics import ProcessorMetrics
from processor_service.settings import ProcessorSettings
from service_kit.broker import Subscription
from service_kit.consumer import Handler
from service_kit.event_flow import EventFlow
from service_kit.group_commit import GroupCommit
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.observability.metrics import Metrics
from service_kit.observability.trace_context import continued_trace
from service_kit.settings import Settings
from simulation.broker.client import ModelBroker
from simulation.database.client import ModelDatabase
from simulation.database.server import DatabaseServer
from simulation.loop import Owner
from simulation.orders import SimulatedPolicy

if TYPE_CHECKING:
    from simulation.world import World


class SimulatedProcess(ABC):
    """One process of a service. `start` after a crash or an exit is a new life with nothing remembered."""

    queue: str
    routing_key: str

    def __init__(self, world: "World", name: str, database: DatabaseServer) -> None:
        self.world = world
        self.name = name
        self.server = database
        self.owner = Owner(name)
        self.running = False
        self.life: asyncio.Task[None] | None = None
        self._lives = 0
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._lives += 1
        self.owner = Owner(f"{self.name}.{self._lives}")
        self._stopping = asyncio.Event()
        self.running = True
        self.world.note(self.owner.name, "starts")
        self.life = self.world.loop.adopt(self.owner, self._live())
        self.life.add_done_callback(self._ended, context=self.world.nobody)

    def kill(self) -> None:
        """kill -9: not one more step."""
        if self.running:
            self.world.note(self.owner.name, "is killed")
            self.running = False
            self.owner.special = "dead"
            self.server.owner_died(self.owner, self.world.unnoticed)
            self.world.broker.drop_all_of(self.owner, self.world.unnoticed())
            self.gone()

    def terminate(self) -> None:
        """SIGTERM."""
        if self.running:
            self.world.note(self.owner.name, "is told to stop")
            self._stopping.set()

    def gone(self) -> None:
        """The process has ended, in one way or the other."""
        return

    def _ended(self, life: "asyncio.Task[None]") -> None:
        if life is self.life and self.owner.alive:
            self.running = False
            self.world.note(self.owner.name, "exits")
            if not life.cancelled() and life.exception():
                self.world.violation(f"{self.owner.name} died of {life.exception()!r}")
            self.gone()

    async def _live(self) -> None:
        plan = self.world.plan.tuning
        random = self.world.new_random()
        database = ModelDatabase(self.server)
        async with (
            ModelBroker(self.world.broker) as broker,
            broker.subscribe(self.queue, [self.routing_key], prefetch=plan.prefetch) as subscription,
        ):
            services = self.compose(database, broker, subscription, random)
            tasks = [asyncio.create_task(service.run()) for service in services]
            await self._stopping.wait()
            told_at, grace_seconds = self.world.loop.time(), plan.shutdown_grace_seconds
            await self.answer_requests(grace_seconds * 0.7)
            for service in services:
                service.stop()
            left_seconds = told_at + grace_seconds * 0.9 - self.world.loop.time()
            _, late = await asyncio.wait(tasks, timeout=left_seconds)
            for task in late:
                self.world.note(self.owner.name, "is cut off")
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()

    async def answer_requests(self, within_seconds: float) -> None:
        """Let the requests in hand be answered before the loops stop; a service without an API has none."""
        return

    @abstractmethod
    def compose(
        self, database: ModelDatabase, broker: ModelBroker, subscription: Subscription, random: Random
    ) -> Sequence[BackgroundService]: ...

    def flow(
        self,
        settings: Settings,
        database: ModelDatabase,
        broker: ModelBroker,
        subscription: Subscription,
        handler: Handler[Any],
        wakeup: Wakeup,
        metrics: Metrics,
        random: Random,
    ) -> EventFlow:
        return EventFlow(
            settings=settings,
            database=database,
            broker=broker,
            subscription=subscription,
            handler=handler,
            wakeup=wakeup,
            metrics=metrics,
            random=random,
            pace=self.world.plan.tuning.pace,
            subject_field="order_id",
            needs_no_reader={ORDER_CANCELLED},
        )


class OrderProcess(SimulatedProcess):
    queue = "order-service.order.processed"
    routing_key = ORDER_PROCESSED

    def __init__(self, world: "World", name: str, database: DatabaseServer) -> None:
        super().__init__(world, name, database)
        self._accepting = False
        self._requests: list[asyncio.Future[Any]] = []

    def compose(
        self, database: ModelDatabase, broker: ModelBroker, subscription: Subscription, random: Random
    ) -> Sequence[BackgroundService]:
        plan, metrics, wakeup = self.world.plan.tuning, _order_metrics(), Wakeup()
        orders = PostgresIntake(database, wakeup, metrics, instance=self.owner.name)
        results = PostgresResults(database, instance=self.owner.name)
        self._reader = PostgresReader(database)
        self._lookups: GroupCommit[OrderId, OrderSummary | None] = GroupCommit(
            partial(get_orders, orders=self._reader)
        )

        def unit_of_work() -> OrderUnitOfWork:
            return OrderUnitOfWork(database, wakeup, instance=self.owner.name)

        self._unit_of_work = unit_of_work

        async def commit(commands: Sequence[CreateOrder]) -> Sequence[CreateOutcome]:
            return await create_orders(commands, orders)

        self._random = random
        self._accepting = True
        handler = OrderProcessedHandler(results, metrics.observe_finished)

        settings = OrderSettings(
            db_dsn="",
            events_per_message=plan.events_per_message,
            inbox_retention_days=plan.inbox_retention_days,
            publications_retention_days=plan.inbox_retention_days,
            instance=self.owner.name,
        )
        flow = self.flow(settings, database, broker, subscription, handler, wakeup, metrics, random)
        services = flow.background_services()
        admission = flow.back_pressure.admission
        self._intake = GroupCommit(commit, batch_max=plan.intake_rows, admission=admission)
        if plan.reconcile_after_seconds is not None:
            after = plan.reconcile_after_seconds
            services.append(Reconciler(unit_of_work(), after_seconds=after, batch_orders=5, random=random))
        return services

    # what clients see

    def post(self, order: Order) -> "asyncio.Future[CreateOutcome]":
        """The outcome, or what went wrong: ConnectionError when the process is gone."""
        return self._request(lambda: self._post(order))

    def get(self, order_id: OrderId) -> "asyncio.Future[OrderSummary | None]":
        return self._request(lambda: self._lookups.submit(order_id))

    def cancel(self, order_id: OrderId) -> "asyncio.Future[CancelOutcome | None]":
        trace = continued_trace(None, self._random)
        return self._request(
            lambda: cancel_order(order_id, "not wanted", trace, self._unit_of_work(), self._reader)
        )

    def _request(self, work: Any) -> "asyncio.Future[Any]":
        answer = self.world.loop.create_future()
        if not self._accepting:
            answer.set_exception(ConnectionRefusedError())
        else:
            self._requests.append(answer)
            self.world.loop.adopt(self.owner, self._answer(work, answer))
        return answer

    async def _post(self, order: Order) -> CreateOutcome:
        command = CreateOrder(
            order=order,
            traceparent=continued_trace(None, self._random),
            accepted_at=self.world.loop.time(),
        )
        return await self._intake.submit(command)

    async def _answer(self, work: Any, answer: "asyncio.Future[Any]") -> None:
        try:
            result = await work()
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)
        self._requests.remove(answer)

    async def answer_requests(self, within_seconds: float) -> None:
        self._accepting = False
        waiting = [answer for answer in self._requests if not answer.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=within_seconds)

    def gone(self) -> None:
        self._accepting = False
        requests, self._requests = self._requests, []
        for answer in requests:
            if not answer.done():
                answer.set_exception(ConnectionResetError())
                answer.exception()


class ProcessorProcess(SimulatedProcess):
    queue = "processor-service.order.created"
    routing_key = ORDER_CREATED

    def compose(
        self, database: ModelDatabase, broker: ModelBroker, subscription: Subscription, random: Random
    ) -> Sequence[BackgroundService]:
        plan, metrics, wakeup = self.world.plan.tuning, _processor_metrics(), Wakeup()
        policy = SimulatedPolicy(random, self.world.postponements, slow_rate=0.1)
        decided = PostgresDecidedOrders(database, wakeup, random, instance=self.owner.name)
        handler = OrderCreatedHandler(policy, decided, metrics.count_outcome)
        settings = ProcessorSettings(
            db_dsn="",
            events_per_message=plan.events_per_message,
            inbox_retention_days=plan.inbox_retention_days,
            publications_retention_days=plan.inbox_retention_days,
            instance=self.owner.name,
        )
        flow = self.flow(settings, database, broker, subscription, handler, wakeup, metrics, random)
        return flow.background_services()


@cache
def _order_metrics() -> OrderMetrics:
    """One for all: nothing depends on them, and making them costs more than a short run."""
    return OrderMetrics()


@cache
def _processor_metrics() -> ProcessorMetrics:
    return ProcessorMetrics()
