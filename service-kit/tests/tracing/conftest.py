from collections.abc import AsyncIterator

import pytest

from service_kit.testing.recorded_spans import RecordedSpans


@pytest.fixture
async def spans() -> AsyncIterator[RecordedSpans]:
    spans = RecordedSpans()
    yield spans
    await spans.ended()
