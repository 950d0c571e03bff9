"""Every import contract was broken once on purpose: a contract that cannot fail protects nothing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "service-kit/service_kit",
    "client/order_processor_client",
    "console/order_console",
    "order-service/order_service",
    "processor-service/processor_service",
    "standalone/order_processor",
)

DIRECTIONS = "standalone → services → console → kit and client, and the services do not know each other"
ORDER_LAYERS = "order-service: main → adapters → application → domain"
PROCESSOR_LAYERS = "processor-service: main → adapters → application → domain"
ORDER_CORE = "order-service: domain and application need the standard library only"
PROCESSOR_CORE = "processor-service: domain and application need the standard library only"
KIT_PORTS = "kit: its words and ports need the standard library only"
POSTGRES = "the PostgreSQL driver stays in service_kit.postgres"
ALEMBIC = "Alembic stays in service_kit.postgres and the migrations"
RABBITMQ = "the RabbitMQ codec stays in service_kit.rabbitmq"
HTTP = "HTTP stays in service_kit.http, the api folders and the console"
TOKENS = "Signed tokens stay in service_kit.tokens"
OPENTELEMETRY = "OpenTelemetry stays in service_kit.tracing"
TESTING = "what runs in production does not import what is for tests"

VIOLATIONS = [
    (DIRECTIONS, "service_kit/postgres/violation.py", "import order_service.domain"),
    (DIRECTIONS, "service_kit/http/violation.py", "import processor_service.domain"),
    (DIRECTIONS, "service_kit/rabbitmq/violation.py", "import order_processor"),
    (DIRECTIONS, "service_kit/http/violation.py", "import order_processor_client"),
    (DIRECTIONS, "service_kit/http/violation.py", "import order_console"),
    (DIRECTIONS, "order_processor_client/violation.py", "import service_kit.errors"),
    (DIRECTIONS, "order_console/pages/violation.py", "import order_service.domain"),
    (DIRECTIONS, "order_service/infrastructure/violation.py", "import order_processor"),
    (DIRECTIONS, "order_service/infrastructure/violation.py", "import processor_service.domain"),
    (DIRECTIONS, "processor_service/infrastructure/violation.py", "import order_service.domain"),
    (ORDER_LAYERS, "order_service/domain/violation.py", "import order_service.application"),
    (ORDER_LAYERS, "order_service/api/violation.py", "import order_service.infrastructure"),
    (ORDER_LAYERS, "order_service/consumers/violation.py", "import order_service.api"),
    (ORDER_LAYERS, "order_service/infrastructure/violation.py", "import order_service.main"),
    (ORDER_LAYERS, "order_service/infrastructure/violation.py", "import order_service.settings"),
    (ORDER_LAYERS, "order_service/unplanned.py", ""),
    (PROCESSOR_LAYERS, "processor_service/domain/violation.py", "import processor_service.application"),
    (PROCESSOR_LAYERS, "processor_service/consumers/violation.py", "import processor_service.infrastructure"),
    (PROCESSOR_LAYERS, "processor_service/infrastructure/violation.py", "import processor_service.main"),
    (PROCESSOR_LAYERS, "processor_service/unplanned.py", ""),
    (ORDER_CORE, "order_service/domain/violation.py", "import msgspec"),
    (ORDER_CORE, "order_service/application/violation.py", "import service_kit.retry"),
    (PROCESSOR_CORE, "processor_service/domain/violation.py", "import never_heard_of"),
    (PROCESSOR_CORE, "processor_service/application/violation.py", "import structlog"),
    (KIT_PORTS, "service_kit/message.py", "import msgspec"),
    (KIT_PORTS, "service_kit/retry.py", "import structlog"),
    (POSTGRES, "order_service/infrastructure/violation.py", "import asyncpg"),
    (POSTGRES, "processor_service/infrastructure/violation.py", "import sqlalchemy.ext.asyncio"),
    (POSTGRES, "service_kit/inprocess/violation.py", "import asyncpg"),
    (ALEMBIC, "order_service/infrastructure/violation.py", "import alembic.command"),
    (RABBITMQ, "service_kit/inprocess/violation.py", "import pamqp.commands"),
    (HTTP, "order_service/consumers/violation.py", "import starlette.requests"),
    (HTTP, "service_kit/postgres/violation.py", "import uvicorn"),
    (TOKENS, "service_kit/http/violation.py", "import joserfc.jwt"),
    (OPENTELEMETRY, "processor_service/infrastructure/violation.py", "import opentelemetry.trace"),
    (TESTING, "service_kit/rabbitmq/violation.py", "import aio_pika"),
    (TESTING, "order_console/pages/violation.py", "import order_console.testing.visitor"),
    (TESTING, "order_service/infrastructure/violation.py", "import service_kit.testing.eventually"),
]


@pytest.fixture(scope="module")
def already_broken(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the code breaks as it is: nothing, or else one test fails for it and not all of them."""
    return broken_contracts(copied_to(tmp_path_factory.mktemp("untouched")))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copied_to(tmp_path)


def test_the_code_keeps_every_contract(already_broken: set[str]) -> None:
    assert already_broken == set()


@pytest.mark.parametrize(("contract", "path", "code"), VIOLATIONS)
def test_a_forbidden_import_breaks_its_contract_and_no_other(
    copy: Path, already_broken: set[str], contract: str, path: str, code: str
) -> None:
    with (copy / path).open("a") as file:
        file.write(f"\n{code}\n")

    assert broken_contracts(copy) == {contract, *already_broken}


def test_every_contract_is_broken_by_one_of_these_violations() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {contract["name"] for contract in project["tool"]["importlinter"]["contracts"]}

    assert contracts == {contract for contract, _, _ in VIOLATIONS}


def copied_to(folder: Path) -> Path:
    """The packages side by side in `folder`, with the project's contracts."""
    for package in PACKAGES:
        source = ROOT / package
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken_contracts(folder: Path) -> set[str]:
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as run; run()",
            "--no-logo",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = set(re.findall(r"^(.+) BROKEN$", result.stdout, flags=re.MULTILINE))
    kept = re.findall(r"^(.+) KEPT$", result.stdout, flags=re.MULTILINE)
    assert broken or kept, result.stdout + result.stderr
    assert result.returncode == (1 if broken else 0)
    return broken
