import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from service_kit.errors import DatabaseUnavailable, StartupError
from service_kit.http.endpoint import Endpoint
from service_kit.http.principal import Role
from service_kit.lifecycle import BackgroundService
from service_kit.observability.metrics import Metrics
from service_kit.service import Service, ServiceFailed, ServiceParts
from service_kit.testing.eventually import eventually


class Turns(BackgroundService):
    """A background service that notes what happens to it."""

    name: ClassVar[str] = "turns"

    def __init__(self, story: list[str]) -> None:
        super().__init__()
        self.story = story
        self.in_turn = asyncio.Event()
        self.may_finish = asyncio.Event()

    async def run_once(self) -> None:
        self.story.append("turn begins")
        self.in_turn.set()
        await self.may_finish.wait()
        self.story.append("turn ends")
        await self.until_stopped(asyncio.Event().wait())


class Dying(BackgroundService):
    name: ClassVar[str] = "relay"

    async def run_once(self) -> None: ...

    async def run(self) -> None:
        raise MemoryError


def service(story: list[str] | None = None, **parts: Any) -> Service:
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "shutdown_grace_seconds": 3600.0}

    @asynccontextmanager
    async def resources() -> AsyncIterator[ServiceParts]:
        yield ServiceParts(metrics=Metrics(), **(defaults | parts))
        if story is not None:
            story.append("resources closed")

    return Service("order-service", resources())


async def get(running: Service, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url) as client:
        return await client.get(path)


async def test_it_listens_at_once_and_is_ready_when_it_is_prepared() -> None:
    may_prepare = asyncio.Event()

    async def prepare() -> None:
        await may_prepare.wait()

    async with service(prepare=prepare) as running:
        assert (await get(running, "/health")).json() == {"service": "order-service", "status": "ok"}
        early = await get(running, "/ready")
        may_prepare.set()
        await running.ready()
        late = await get(running, "/ready")

    assert (early.status_code, early.json()["checks"]["migrations"]["detail"]) == (503, "still starting")
    assert (late.status_code, late.json()["status"]) == (200, "ready")


async def test_it_waits_for_a_database_that_is_down_and_says_so_once() -> None:
    attempts = 0

    async def prepare() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise DatabaseUnavailable("database: connection refused")

    with capture_logs() as lines:
        async with service(prepare=prepare) as running:
            early = await eventually(lambda: get_ready_detail(running))
            await running.ready()

    assert early == "database: connection refused"
    assert [line["reason"] for line in lines if line["event"] == "service_waiting"] == [early]


async def get_ready_detail(running: Service) -> str | None:
    detail: str = (await get(running, "/ready")).json()["checks"]["migrations"]["detail"]
    return detail if detail.startswith("database") else None


async def test_a_startup_error_while_preparing_ends_the_service() -> None:
    async def prepare() -> None:
        raise StartupError("the schema is newer than this program")

    story: list[str] = []
    async with service(story, prepare=prepare) as running:
        with pytest.raises(StartupError, match="the schema is newer"):
            await running.ready()
        with pytest.raises(StartupError, match="the schema is newer"):
            await running.ended()

    assert story == ["resources closed"]


async def test_a_port_that_is_taken_ends_the_service_before_anything_is_prepared() -> None:
    story: list[str] = []
    async with service() as first:
        with pytest.raises(StartupError, match="port is taken"):
            async with service(story, port=int(first.url.rpartition(":")[2])):
                pass

    assert story == ["resources closed"]


async def test_it_drains_in_order_requests_then_turns_then_resources() -> None:
    story: list[str] = []
    turns = Turns(story)
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        asked.set()
        await may_answer.wait()
        story.append("answered")
        turns.may_finish.set()
        return Response(b"done")

    running = service(
        story, routes=[Route("/slow", Endpoint(slow, Role.ANYBODY))], background_services=[turns]
    )
    async with running:
        await turns.in_turn.wait()
        answer = asyncio.create_task(get(running, "/slow"))
        await asked.wait()
        running.stop()
        await eventually(lambda: refuses(running))
        may_answer.set()

    assert (await answer).text == "done"
    assert story == ["turn begins", "answered", "turn ends", "resources closed"]


async def test_it_is_not_ready_while_it_drains() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow_check() -> str | None:
        asked.set()
        await may_answer.wait()
        return None

    running = service(checks={"database": slow_check})
    async with running:
        answer = asyncio.create_task(get(running, "/ready"))
        await asked.wait()
        running.stop()
        await eventually(lambda: refuses(running))
        may_answer.set()

    assert (await answer).status_code == 503
    assert (await answer).json()["checks"]["shutdown"] == {"ok": False, "detail": "draining"}


async def refuses(running: Service) -> bool:
    try:
        await get(running, "/health")
    except httpx.TransportError:
        return True
    return False


async def test_what_does_not_finish_within_the_grace_time_is_cut_off_and_named() -> None:
    story: list[str] = []
    turns = Turns(story)

    with capture_logs() as lines:
        async with service(story, background_services=[turns], shutdown_grace_seconds=0.2):
            await turns.in_turn.wait()

    assert story == ["turn begins", "resources closed"]
    cut_off = [line for line in lines if line["event"] == "background_services_cut_off"]
    assert [line["background_services"] for line in cut_off] == [["turns"]]


async def test_resources_that_do_not_close_within_the_grace_time_are_left() -> None:
    @asynccontextmanager
    async def resources() -> AsyncIterator[ServiceParts]:
        yield ServiceParts(host="127.0.0.1", port=0, metrics=Metrics(), shutdown_grace_seconds=0.1)
        await asyncio.Event().wait()

    with capture_logs() as lines:
        async with Service("order-service", resources()):
            pass

    assert "resources_cut_off" in [line["event"] for line in lines]


async def test_a_stop_while_waiting_for_the_database_ends_the_wait() -> None:
    async def prepare() -> None:
        raise DatabaseUnavailable("database: connection refused")

    async with service(prepare=prepare) as running:
        running.stop()
        await running.ended()


async def test_a_stop_ends_the_opening_of_parts_that_hang() -> None:
    opening = asyncio.Event()

    @asynccontextmanager
    async def resources() -> AsyncIterator[ServiceParts]:
        opening.set()
        await asyncio.Event().wait()
        yield ServiceParts(host="127.0.0.1", port=0, metrics=Metrics())

    hanging = Service("order-service", resources())
    entering = asyncio.create_task(hanging.__aenter__())
    await opening.wait()
    hanging.stop()
    await entering
    await hanging.__aexit__(None)


async def test_a_background_service_that_dies_drains_the_service_and_is_an_error() -> None:
    story: list[str] = []
    with capture_logs() as lines:
        async with service(story, background_services=[Dying()]) as running:
            with pytest.raises(ServiceFailed, match="the relay ended unexpectedly"):
                await running.ended()

    assert story == ["resources closed"]
    assert "background_service_died" in [line["event"] for line in lines]


async def test_two_services_share_a_process_and_each_logs_its_name() -> None:
    names: list[str] = []

    def named(name: str) -> Service:
        @asynccontextmanager
        async def resources() -> AsyncIterator[ServiceParts]:
            async def prepare() -> None:
                names.append(structlog.contextvars.get_contextvars()["service"])

            yield ServiceParts(host="127.0.0.1", port=0, metrics=Metrics(), prepare=prepare)

        return Service(name, resources())

    async with named("one") as one, named("two") as two:
        await one.ready()
        await two.ready()
        assert (await get(one, "/health")).json()["service"] == "one"
        assert (await get(two, "/health")).json()["service"] == "two"

    assert sorted(names) == ["one", "two"]
    assert "service" not in structlog.contextvars.get_contextvars()


async def test_a_request_that_takes_long_is_ended_by_the_drain() -> None:
    waits, ended = asyncio.Event(), asyncio.Event()

    async def long_poll(_: Request) -> Response:
        waits.set()
        await ended.wait()
        return Response(b"nothing yet")

    async with service(
        routes=[Route("/wait", Endpoint(long_poll, Role.ANYBODY))], on_drain=ended.set
    ) as running:
        answer = asyncio.create_task(get(running, "/wait"))
        await waits.wait()
        running.stop()
        assert (await answer).text == "nothing yet"
