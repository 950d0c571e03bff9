"""The model's transactions do to each other what PostgreSQL's do.

`service-kit/tests/postgres/test_transactions_conformance.py` runs the same suite there.
"""

import pytest

from service_kit.testing.transactions_conformance import SharedDatabase, TransactionsConformance
from simulation.tests.models import SharedModel


@pytest.fixture
async def shared() -> SharedDatabase:
    return SharedModel()


class TestModelTransactions(TransactionsConformance):
    pass
