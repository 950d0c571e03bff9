"""The live flow, and the stream that keeps it and other pages up to date."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from order_console.feed import Feed, newest_at
from order_console.site import Site, Visit
from order_console.view import Snapshot
from order_processor_client.request import Service

STREAM_SECONDS_MAX = 600.0
"""Then the browser opens the stream anew, and shows that it is still logged in."""

_RETRY = b"retry: 2000\n\n"
_PARTS = ("verdict", "pace", "health", "waiting")


def routes(site: Site) -> list[Route]:
    async def live(visit: Visit) -> Response:
        return site.show(visit, "live.html")

    async def stream(visit: Visit) -> Response:
        reader = _Reader(site.feed, visit.query.text("parts").split(), visit.query.whole("since", 0, least=0))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(_messages(reader), media_type="text/event-stream", headers=headers)

    return [site.page("", live), site.page("/live", stream)]


def parts(site: Site, snapshot: Snapshot) -> Mapping[str, str]:
    """All that may move on any page, by the names that pages know it by."""
    found = {name: site.part(f"parts/{name}.html", snapshot=snapshot) for name in _PARTS}
    replays = {service: view.replays for service, view in snapshot.views.items()}
    found["replays"] = site.part("parts/replays.html", replays=replays)
    for service, shown in replays.items():
        found |= {
            part_of(service, replay.id): site.part("parts/replay.html", replay=replay) for replay in shown
        }
    return found


def part_of(service: Service, replay_id: int) -> str:
    return f"replay-{service}-{replay_id}"


async def _messages(reader: "_Reader") -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ends_at = clock() + STREAM_SECONDS_MAX
    yield _RETRY
    with reader.feed.watching():
        while not reader.feed.closed and clock() < ends_at:
            version = reader.feed.version
            yield b"data: " + msgspec.json.encode(reader.news()) + b"\n\n"
            await reader.feed.changed(version)


class _Reader:
    """One who watches, and what they have seen: a slow one gets fewer messages, and misses nothing."""

    def __init__(self, feed: Feed, wanted: list[str], since: int) -> None:
        self.feed = feed
        self._wanted = wanted
        self._flow_at = self._backlog_at = since
        self._seen: dict[str, str] = {}

    def news(self) -> Mapping[str, object]:
        now = {name: self.feed.parts[name] for name in self._wanted if name in self.feed.parts}
        changed = {name: html for name, html in now.items() if self._seen.get(name) != html}
        flow, backlog = self.feed.flow(self._flow_at), self.feed.backlog(self._backlog_at)
        self._seen |= changed
        self._flow_at = newest_at(flow, self._flow_at)
        self._backlog_at = newest_at(backlog, self._backlog_at)
        return {"parts": changed, "flow": flow, "backlog": backlog}
