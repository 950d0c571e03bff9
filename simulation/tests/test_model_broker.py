"""The model broker does what RabbitMQ does (`service-kit/tests/rabbitmq/test_rabbitmq_conformance.py`)."""

from collections.abc import AsyncIterator

import pytest

from service_kit.testing.broker_conformance import BrokerConformance
from simulation.broker.client import ModelBroker
from simulation.tests.models import RealTime, model_broker_server


class TestModelBroker(BrokerConformance):
    @pytest.fixture
    def name(self) -> str:
        return "conformance"

    @pytest.fixture
    async def broker(self) -> AsyncIterator[ModelBroker]:
        async with ModelBroker(model_broker_server(RealTime())) as broker:
            yield broker
