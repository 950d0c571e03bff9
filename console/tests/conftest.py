from collections.abc import AsyncIterator

import pytest

from order_console.testing.deployed import KEY, Deploy, Deployed, deployment


@pytest.fixture
async def deploy() -> AsyncIterator[Deploy]:
    async with deployment() as deploy:
        yield deploy


@pytest.fixture
async def deployed(deploy: Deploy) -> Deployed:
    """With somebody who has logged in."""
    deployed = await deploy()
    await deployed.visitor.login(KEY)
    return deployed
