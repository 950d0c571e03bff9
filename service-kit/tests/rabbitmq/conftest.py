"""The services run on uvloop, tools on asyncio's own loop: their transports differ, so each is tested."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

ON_BOTH_LOOPS = ("test_rabbitmq_conformance.py", "test_through_a_proxy.py")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else factories
