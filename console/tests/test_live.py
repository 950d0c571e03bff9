"""The stream: what those who watch get, and what watching costs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from order_console.testing.deployed import Deployed
from order_console.testing.fake_services import REPLAY, samples
from order_processor_client.request import Service


@asynccontextmanager
async def watching(deployed: Deployed, query: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with deployed.visitor.http.stream("GET", f"/console/live?{query}", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async with aclosing(_messages(answer)) as messages:
            yield messages


async def _messages(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield msgspec.json.decode(line.removeprefix("data: "))


async def first(messages: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """The first that holds anything: the poller looks when somebody begins to watch."""
    async for message in messages:
        if message["flow"]:
            return message
    raise AssertionError("the stream ended")


async def test_the_first_message_holds_the_history_and_the_parts_that_were_asked_for(
    deployed: Deployed,
) -> None:

    async with watching(deployed, "parts=verdict%20pace") as messages:
        history = await first(messages)

    assert [point["accepted"] for point in history["flow"][-30:]] == [*range(100, 130)]
    assert {point["accepted"] for point in history["flow"][:-30]} == {0}
    assert len(history["flow"]) == pytest.approx(900, abs=3)
    assert history["backlog"][-1]["outbox"] == 2 * 1204


async def test_only_what_changed_is_sent_again(deployed: Deployed) -> None:
    async with watching(deployed, "parts=verdict%20waiting") as messages:
        assert set((await first(messages))["parts"]) == {"verdict", "waiting"}
        deployed.order.answers["GET /admin/state"]["backlog"]["outbox_pending"] = 777_777
        later = await anext(messages)
        while "waiting" not in later["parts"]:
            later = await anext(messages)

    assert "777,777" in later["parts"]["waiting"] and "verdict" not in later["parts"]
    assert later["flow"] == []


async def test_new_samples_are_sent_once(deployed: Deployed) -> None:
    async with watching(deployed, "parts=") as messages:
        flow = list((await first(messages))["flow"])
        deployed.order.answers["GET /admin/flow"]["samples"] = samples(30, later=3)
        while flow[-1]["accepted"] != 132:
            flow += (await anext(messages))["flow"]

    assert [point["at"] for point in flow] == sorted({point["at"] for point in flow})


async def test_who_comes_back_gets_only_what_was_missed(deployed: Deployed) -> None:
    async with watching(deployed, "parts=") as messages:
        flow = (await first(messages))["flow"]

    async with watching(deployed, f"parts=&since={flow[-3]['at']}") as messages:
        assert (await anext(messages))["flow"] == flow[-2:]


async def test_many_viewers_cost_no_more_than_one(deployed: Deployed) -> None:

    async def watch_three() -> None:
        async with watching(deployed, "parts=pace") as messages:
            for _ in range(3):
                await anext(messages)

    before = deployed.order.count("/admin/state")
    await asyncio.gather(*(watch_three() for _ in range(8)))

    assert deployed.order.count("/admin/state") - before <= 4


async def test_a_service_that_goes_away_is_told_of_and_so_is_its_return(deployed: Deployed) -> None:
    async with watching(deployed, "parts=verdict%20health") as messages:
        await first(messages)
        await deployed.away(Service.PROCESSOR)
        verdict = ""
        while "processor-service does not answer" not in verdict:
            verdict = (await anext(messages))["parts"].get("verdict", "")

    assert 'data-tone="bad"' in verdict


async def test_a_replay_is_followed_by_its_name(deployed: Deployed) -> None:
    async with watching(deployed, "parts=replay-order-5") as messages:
        await first(messages)
        done = REPLAY | {"state": "finished", "handled": 989, "remaining": 0}
        deployed.order.answers["GET /admin/replays"] = {"replays": [done], "has_more": False}
        html = ""
        while "finished" not in html:
            html = (await anext(messages))["parts"].get("replay-order-5", "")

    assert 'data-state="finished"' in html and "<script" not in html


async def test_a_stream_ends_when_the_service_drains(deployed: Deployed) -> None:
    async with watching(deployed, "parts=pace") as messages:
        await first(messages)
        deployed.close()

        async def rest() -> int:
            return len([message async for message in messages])

        assert await asyncio.wait_for(rest(), 5) <= 1
