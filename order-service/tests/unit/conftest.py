"""Everything here needs nothing outside of its process: time is virtual."""

from service_kit.testing.virtual_time import pytest_asyncio_loop_factories, virtual_time

__all__ = ["pytest_asyncio_loop_factories", "virtual_time"]
