"""Everything here runs in virtual time, and logs for nobody."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from service_kit.testing.virtual_time import pytest_asyncio_loop_factories, virtual_time

__all__ = ["pytest_asyncio_loop_factories", "virtual_time"]


@pytest.fixture(autouse=True)
def log_entries() -> Iterator[list[EventDict]]:
    with capture_logs() as entries:
        yield entries
