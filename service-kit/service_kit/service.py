"""The life of a service: listening, prepared, running, drained; and of the process that holds one or two."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any, Self

import structlog

from service_kit.errors import ServiceKitError, Unavailable
from service_kit.http.access import Access
from service_kit.http.application import NOBODY, application
from service_kit.http.cors import for_origins
from service_kit.http.endpoint import roles_of
from service_kit.http.health import Check, Readiness, health_routes
from service_kit.http.metrics_endpoint import metrics_route
from service_kit.http.protocol import DEFAULT_LIMITS, HttpLimits
from service_kit.http.routing import Routes
from service_kit.http.server import HttpServer
from service_kit.http.traced import Traced
from service_kit.lifecycle import BackgroundService
from service_kit.observability.metrics import Metrics
from service_kit.retry import OUTAGE_BACKOFF, Backoff, pauses
from service_kit.tracing.tracer import Tracer

log = structlog.stdlib.get_logger()

# Of the grace time: until then requests may be answered, and then turns finished; the rest is for closing.
# Spans are worth waiting for only while there is time enough for all of that.
_REQUESTS_SHARE, _TURNS_SHARE, _SPANS_SHARE = 0.7, 0.9, 0.8
_REMINDERS = Backoff(first_seconds=2.0, max_seconds=60.0, jitter=0.0)


class ServiceFailed(ServiceKitError):
    """A part of the service ended by itself."""


async def _nothing_to_prepare() -> None: ...


def _nothing_to_end() -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What a service is made of.

    `prepare` is called until it does not raise Unavailable any more (migrations, a look at the schema), and
    before any background service runs; it may be cancelled. `on_drain` is called before requests in flight
    are waited for, to end those that could take long. `checks` are shown by `/ready`, beside one named
    `migrations` that tells whether `prepare` is done. `routes` are served from the beginning, to whom
    `access` lets in by their roles; each must have one.
    """

    host: str
    port: int
    metrics: Metrics
    routes: Routes = ()
    access: Access = NOBODY
    checks: Mapping[str, Check] = field(default_factory=dict)
    prepare: Callable[[], Awaitable[None]] = _nothing_to_prepare
    background_services: Sequence[BackgroundService] = ()
    on_drain: Callable[[], None] = _nothing_to_end
    shutdown_grace_seconds: float = 20.0
    limits: HttpLimits = DEFAULT_LIMITS
    cors_origins: str | None = None
    tracer: Tracer | None = None


class Service:
    """One service, in a task of its own, so that several can share a process.

    Entering waits until it listens, and raises StartupError if it cannot. Leaving drains it within its grace
    time: not ready, requests in flight answered, turns of background services finished, then `parts` left.
    """

    def __init__(self, name: str, parts: AbstractAsyncContextManager[ServiceParts]) -> None:
        self.name = name
        self._parts = parts
        self._stopping = asyncio.Event()
        self._listening = asyncio.Event()
        self._prepared = asyncio.Event()
        self._opened = False
        self._unprepared_because: str | None = "still starting"
        self._server: HttpServer | None = None
        self._life: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._life = asyncio.create_task(self._live(), name=self.name)
        try:
            await self._reached(self._listening)
        except BaseException:
            await self.__aexit__(None)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Never raises what `ended` raises."""
        self.stop()
        assert self._life
        try:
            await asyncio.gather(self._life, return_exceptions=True)
        except asyncio.CancelledError:
            self._life.cancel()
            raise

    @property
    def url(self) -> str:
        assert self._server, "the service was not entered"
        return self._server.url

    def stop(self) -> None:
        """Begin to drain; safe twice. What still hangs in opening its parts is cancelled."""
        self._stopping.set()
        if self._life and not self._opened:
            self._life.cancel()

    async def ready(self) -> None:
        """Return when the service is prepared and its background services run; raises what `ended` raises."""
        await self._reached(self._prepared)

    async def ended(self) -> None:
        """Return when the service has drained. Raises StartupError; ServiceFailed when a part of it died."""
        assert self._life, "the service was not entered"
        await asyncio.wait({self._life})
        self._life.result()

    async def _reached(self, milestone: asyncio.Event) -> None:
        assert self._life, "the service was not entered"
        await _first(milestone.wait(), self.ended())

    async def _live(self) -> None:
        structlog.contextvars.bind_contextvars(service=self.name)
        deadline = _Deadline()
        stack = AsyncExitStack()
        try:
            parts = await stack.enter_async_context(self._parts)
            self._opened = True
            deadline.seconds = parts.shutdown_grace_seconds
            await self._serve(parts, deadline)
        finally:
            await _close(stack, deadline)
            log.info("service_stopped")

    async def _serve(self, parts: ServiceParts, deadline: "_Deadline") -> None:
        readiness = Readiness({**parts.checks, "migrations": self._migrations_check})
        routes = [*parts.routes, *health_routes(self.name, readiness), metrics_route(parts.metrics.registry)]
        list(roles_of(routes))  # raises for one without
        app = application(routes, metrics=parts.metrics, access=parts.access)
        traced = Traced(app, parts.tracer) if parts.tracer else app
        if parts.cors_origins:
            traced = for_origins(traced, parts.cors_origins.split(","))
        server = HttpServer(traced, parts.host, parts.port, limits=parts.limits)
        background = _Background(parts.background_services, parts.metrics)
        try:
            await server.start()
            self._server = server
            self._listening.set()
            log.info("service_listening", url=server.url)
            await _first(self._stopping.wait(), self._prepare_and_run(parts, background))
        finally:
            readiness.drain()
            parts.on_drain()
            log.info("service_stopping")
            await server.drain(deadline.seconds_left(_REQUESTS_SHARE))
            await background.drain(deadline.seconds_left(_TURNS_SHARE))
            if parts.tracer:
                await parts.tracer.close(deadline.seconds_left(_SPANS_SHARE))

    async def _prepare_and_run(self, parts: ServiceParts, background: "_Background") -> None:
        await self._prepare(parts.prepare)
        background.start()
        self._unprepared_because = None
        self._prepared.set()
        log.info("service_ready")
        await background.died()

    async def _prepare(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Through an outage, with a log line at the first look and then at growing intervals."""
        random = Random()
        delays, reminders = pauses(OUTAGE_BACKOFF, random), pauses(_REMINDERS, random)
        clock = asyncio.get_running_loop().time
        remind_at = clock()
        while True:
            try:
                return await prepare()
            except Unavailable as outage:
                self._unprepared_because = str(outage)
                if clock() >= remind_at:
                    log.warning("service_waiting", reason=str(outage))
                    remind_at = clock() + next(reminders)
            await asyncio.sleep(next(delays))

    async def _migrations_check(self) -> str | None:
        return self._unprepared_because


class _Background:
    """The running background services of one service."""

    def __init__(self, services: Sequence[BackgroundService], metrics: Metrics) -> None:
        self._services = services
        for service in services:
            service.on_failure = metrics.observe_background_service(service.name)
        self._tasks: dict[asyncio.Task[None], str] = {}

    def start(self) -> None:
        self._tasks = {asyncio.create_task(service.run()): service.name for service in self._services}

    async def died(self) -> None:
        """Return never; raises ServiceFailed when one of them ends without having been stopped."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        error = None if task.cancelled() else task.exception()
        log.critical("background_service_died", background_service=self._tasks[task], exc_info=error)
        raise ServiceFailed(f"the {self._tasks[task]} ended unexpectedly; the log says why") from error

    async def drain(self, grace_seconds: float) -> None:
        for service in self._services:
            service.stop()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace_seconds)
        if late:
            log.warning(
                "background_services_cut_off", background_services=[self._tasks[task] for task in late]
            )
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=1.0)


class _Deadline:
    """When draining must be over; its time begins to run at the first question."""

    def __init__(self) -> None:
        self.seconds = 20.0
        self._started_at: float | None = None

    def seconds_left(self, share: float = 1.0) -> float:
        """Until this share of the time has passed; 0 when it has."""
        now = asyncio.get_running_loop().time()
        if self._started_at is None:
            self._started_at = now
        return max(0.0, self._started_at + self.seconds * share - now)


async def _close(resources: AsyncExitStack, deadline: _Deadline) -> None:
    try:
        async with asyncio.timeout(deadline.seconds_left()):
            await resources.aclose()
    except TimeoutError:
        log.warning("resources_cut_off")
    except Exception as error:
        log.error("resources_not_closed", exc_info=error)


async def serve_until_stopped(
    *services: Service, meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, or until one of `services` ends, then drain all of them at once.

    `meanwhile` runs once all of them listen, and is cancelled when they stop; its end means nothing.
    Raises what ended a service: StartupError, ServiceFailed.
    """
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        stopping = asyncio.create_task(_stop_after(stop, services))
        stack.callback(stopping.cancel)
        for service in services:
            await stack.enter_async_context(service)
        side = asyncio.create_task(meanwhile()) if meanwhile else None
        try:
            await _first(stop.wait(), *(service.ended() for service in services))
        finally:
            stop.set()
            if side:
                side.cancel()
                await asyncio.gather(side, return_exceptions=True)


async def _stop_after(stop: asyncio.Event, services: Sequence[Service]) -> None:
    """All at once, also while they are being entered."""
    await stop.wait()
    for service in services:
        service.stop()


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set. Ctrl-C while it is set ends the process at once, with 130."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signalled = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal signalled
        if signalled and number == signal.SIGINT:
            os._exit(130)
        signalled = True
        loop.call_soon_threadsafe(stop.set)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


async def _first(*waiting: Awaitable[Any]) -> None:
    """Wait until one of `waiting` is done, cancel the others, and raise what any of them raised."""
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
