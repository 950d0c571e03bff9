"""Both clients behind one face, and a server for them that answers as it was told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from order_processor_client import AsyncOrderProcessorClient, OrderProcessorClient
from service_kit.testing.scripted_http import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@dataclass(frozen=True, slots=True)
class EitherClient:
    """One of the two clients: `ask` calls a method of it, and waits for what it gives."""

    kind: type[OrderProcessorClient] | type[AsyncOrderProcessorClient]
    url: str

    def ask(self, call: Callable[[Any], Any], **options: Any) -> Any:
        given = {"url": self.url, "processor_url": self.url, "operator": "anna", **options}
        if self.kind is OrderProcessorClient:
            with OrderProcessorClient(**given) as client:
                result = call(client)
                return list(result) if isinstance(result, Iterator) else result
        return asyncio.run(self._ask_async(call, given))

    async def _ask_async(self, call: Callable[[Any], Any], given: Mapping[str, Any]) -> Any:
        async with AsyncOrderProcessorClient(**given) as client:
            result = call(client)
            if isinstance(result, AsyncIterator):
                return [one async for one in result]
            return await result if isinstance(result, Awaitable) else result


@pytest.fixture(params=[OrderProcessorClient, AsyncOrderProcessorClient], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> EitherClient:
    return EitherClient(request.param, server.url)
