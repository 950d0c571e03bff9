from collections.abc import AsyncIterator

import pytest

from service_kit.inprocess import InProcessBroker
from service_kit.testing.broker_conformance import BrokerConformance


class TestInProcessBroker(BrokerConformance):
    @pytest.fixture
    def name(self, unique_name: str) -> str:
        return unique_name

    @pytest.fixture
    async def broker(self) -> AsyncIterator[InProcessBroker]:
        async with InProcessBroker() as broker:
            yield broker
