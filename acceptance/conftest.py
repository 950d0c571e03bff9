"""A deployment for each test, and a browser for those of the console."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from acceptance.browser import NO_CHROMIUM, find_chromium
from acceptance.deployment import Deployment, deployment
from service_kit.testing.postgres_server import PostgresServer


@pytest.fixture
async def deployed(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with deployment(postgres_server, rabbitmq_url, unique_name, tmp_path) as deployed:
        yield deployed


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of one. Without any the test is skipped; under CI=true it fails."""
    found = find_chromium()
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(NO_CHROMIUM, pytrace=False)
    return found or pytest.skip(NO_CHROMIUM)
