"""The whole service: real HTTP, real PostgreSQL, and a broker within the process."""

from collections.abc import AsyncIterator
from random import Random

import httpx
import pytest

from processor_service.main import configured_policy, processor_service
from processor_service.settings import ProcessorSettings
from service_kit.inprocess import InProcessBroker
from service_kit.service import Service


@pytest.fixture
async def broker() -> AsyncIterator[InProcessBroker]:
    async with InProcessBroker() as broker:
        yield broker


@pytest.fixture
async def service(dsn: str, broker: InProcessBroker) -> AsyncIterator[Service]:
    settings = ProcessorSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0)
    policy = configured_policy(settings, Random())
    async with Service("processor-service", processor_service(settings, broker, policy)) as service:
        await service.ready()
        yield service


@pytest.fixture
async def processor(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        yield client
