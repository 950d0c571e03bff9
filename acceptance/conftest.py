"""A deployment for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from acceptance.deployment import Deployment, deployment
from service_kit.testing.postgres_server import PostgresServer


@pytest.fixture
async def deployed(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with deployment(postgres_server, rabbitmq_url, unique_name, tmp_path) as deployed:
        yield deployed
