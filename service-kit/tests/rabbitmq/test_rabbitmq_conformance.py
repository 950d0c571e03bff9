from collections.abc import AsyncIterator

import pytest

from service_kit.rabbitmq import RabbitBroker
from service_kit.testing.broker_conformance import BrokerConformance
from service_kit.testing.rabbitmq_server import forget


class TestRabbitBroker(BrokerConformance):
    @pytest.fixture
    def name(self, unique_name: str) -> str:
        return unique_name

    @pytest.fixture
    async def broker(self, rabbitmq_url: str, name: str) -> AsyncIterator[RabbitBroker]:
        async with RabbitBroker(rabbitmq_url, exchange=name) as broker:
            await broker.publisher().ready()
            yield broker
        await forget(rabbitmq_url, queues=[f"{name}.a", f"{name}.b"], exchanges=[name])


class TestRabbitBrokerWithQuorumQueues(BrokerConformance):
    @pytest.fixture
    def name(self, unique_name: str) -> str:
        return unique_name

    @pytest.fixture
    async def broker(self, rabbitmq_url: str, name: str) -> AsyncIterator[RabbitBroker]:
        async with RabbitBroker(rabbitmq_url, exchange=name, queue_type="quorum") as broker:
            await broker.publisher().ready()
            yield broker
        await forget(rabbitmq_url, queues=[f"{name}.a", f"{name}.b"], exchanges=[name])
