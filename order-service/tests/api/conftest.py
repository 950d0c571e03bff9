"""The whole service: real HTTP, real PostgreSQL, and a broker within the process."""

from collections.abc import AsyncIterator

import httpx
import pytest

from order_service.main import order_service
from order_service.settings import OrderSettings
from service_kit.inprocess import InProcessBroker
from service_kit.service import Service


@pytest.fixture
async def broker() -> AsyncIterator[InProcessBroker]:
    async with InProcessBroker() as broker:
        yield broker


@pytest.fixture
async def service(dsn: str, broker: InProcessBroker) -> AsyncIterator[Service]:
    settings = OrderSettings(db_dsn=dsn, port=0, auth="off", shutdown_grace_seconds=5.0)
    async with Service("order-service", order_service(settings, broker)) as service:
        await service.ready()
        yield service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        yield client
