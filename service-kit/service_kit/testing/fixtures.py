"""The servers that tests ask for, as a pytest plugin: `-p service_kit.testing.fixtures`.

Says in its header which servers are used, and in its closing lines how many tests were skipped and why.
"""

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import cast

import pytest

from service_kit.testing.postgres_server import PostgresServer, given_postgres, postgres_for_tests
from service_kit.testing.rabbitmq_server import NoRabbitMQ, docker_answers, given_rabbitmq, rabbitmq_for_tests

Given = tuple[str, str] | None
POSTGRES = pytest.StashKey[Given]()
RABBITMQ = pytest.StashKey[Given]()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A real PostgreSQL: TEST_POSTGRES_DSN, else a local one, else the one of the wheel.

    Take a database of it through `service_kit.testing.postgres_server.fresh_database`.
    """
    given = pytestconfig.stash[POSTGRES]
    with postgres_for_tests(given[0] if given else None) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """A real RabbitMQ: TEST_RABBITMQ_URL, else a local one, else one in Docker.

    Without any, the test is skipped; under CI=true it fails, so that no run passes by testing nothing.
    """
    given = pytestconfig.stash[RABBITMQ]
    try:
        with rabbitmq_for_tests(given[0] if given else None) as url:
            yield url
    except NoRabbitMQ as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def unique_name() -> str:
    """A name that no other test and no other run uses, fit for queues, exchanges and databases."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def pytest_configure(config: pytest.Config) -> None:
    try:
        config.stash[POSTGRES], config.stash[RABBITMQ] = given_postgres(), given_rabbitmq()
    except ConnectionError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    without_rabbitmq = "in Docker" if docker_answers() else "none, so tests that need it are skipped"
    return [
        f"PostgreSQL: {_shown(config.stash[POSTGRES], 'from the wheel')}",
        f"RabbitMQ: {_shown(config.stash[RABBITMQ], without_rabbitmq)}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = cast("list[pytest.TestReport]", terminalreporter.stats.get("skipped", []))
    reasons = Counter(_reason(report) for report in skipped)
    terminalreporter.write_line(f"tests skipped: {len(skipped)}")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count} because: {reason}")


def _shown(given: Given, otherwise: str) -> str:
    # Never the URL itself: it may hold a password.
    return given[1] if given else otherwise


def _reason(report: pytest.TestReport) -> str:
    place_and_reason = report.longrepr
    text = place_and_reason[2] if isinstance(place_and_reason, tuple) else str(place_and_reason)
    return text.removeprefix("Skipped: ")
