"""The commands as somebody types them: what they say, and how they exit."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import pytest

from acceptance.deployment import Deployment
from acceptance.http_client import request
from acceptance.load import order_body, post_all
from acceptance.processes import COMMANDS, ServiceProcess, plain_environment
from service_kit.testing.eventually import eventually

REPOSITORY = Path(__file__).parent.parent
NOWHERE = "postgresql://nobody:secret-word@127.0.0.1:1/none"
# With the default names a service would declare its queue on the tests' broker before it fails, and leave it.
NO_BROKER = {"APP__RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/"}


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    output: str
    errors: list[str]


async def run(
    *command: str | Path, settings: Mapping[str, str] | None = None, folder: Path | None = None
) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=plain_environment() | dict(settings or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, output.decode(), errors.decode().splitlines())


async def test_every_wrong_setting_is_named_in_a_line_of_its_own() -> None:
    wrong = {"APP__DB_DSN": "mysql://root:secret-word@h/d", "APP__PORT": "eighty", "APP__QUEUE_TYPE": "fast"}

    finished = await run(COMMANDS / "order-service", "serve", settings=wrong)

    assert finished.code == 2
    assert [line.split(" ")[1].split("=")[0] for line in finished.errors] == [*wrong]
    assert "secret-word" not in "".join(finished.errors)


@pytest.mark.parametrize(
    ("command", "settings", "words"),
    [
        ("order-service", {}, "APP__DB_DSN is not set"),
        ("processor-service", {"APP__DB_DSN": NOWHERE, "APP__POLICY": "nowhere:decide"}, "APP__POLICY"),
        ("processor-service", {"APP__DB_DSN": NOWHERE, "APP__RULES_FILE": "missing.toml"}, "APP__RULES_FILE"),
        ("processor-service", {"APP__DB_DSN": NOWHERE, "APP__SUCCESS_RATE": "1.5"}, "APP__SUCCESS_RATE"),
        ("order-service", {"APP__DB_DSN": NOWHERE, "APP__RABBITMQ_URL": "amqp://h:99999/"}, "RABBITMQ_URL"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_one_line_and_exit_code_2(
    command: str, settings: Mapping[str, str], words: str
) -> None:
    finished = await run(COMMANDS / command, "serve", settings=settings)

    assert finished.code == 2
    assert len(finished.errors) == 1 and words in finished.errors[0]


async def test_a_taken_port_is_named_with_the_setting_to_change(deployed: Deployment) -> None:
    service = await deployed.start_order_service()
    port = service.url.rpartition(":")[2]

    finished = await run(
        COMMANDS / "order-service",
        "serve",
        settings=NO_BROKER | {"APP__DB_DSN": deployed.order_dsn, "APP__PORT": port},
    )

    assert finished.code == 1
    assert len(finished.errors) == 1
    assert port in finished.errors[0] and "APP__PORT" in finished.errors[0]


async def test_a_database_that_does_not_exist_ends_the_start_with_one_line(deployed: Deployment) -> None:
    dsn = deployed.order_dsn.replace("/test_", "/no_such_")

    settings = NO_BROKER | {"APP__DB_DSN": dsn, "APP__PORT": "0"}
    finished = await run(COMMANDS / "order-service", "serve", settings=settings)

    assert finished.code == 1
    assert len(finished.errors) == 1 and "does not exist" in finished.errors[0]


@pytest.mark.parametrize(("key", "closed"), [({}, 1), ({"APP__ADMIN_KEY": "k" * 32}, 0)])
async def test_a_console_that_nobody_can_enter_is_told_at_the_start(
    tmp_path: Path, key: Mapping[str, str], closed: int
) -> None:
    settings = NO_BROKER | {"APP__DB_DSN": NOWHERE, "APP__CONSOLE": "true"} | dict(key)
    service = ServiceProcess("order-service", settings, tmp_path / "log")
    await service.start(ready=False)
    assert await service.stop() == 0

    told = [line for line in service.log_path.read_text().splitlines() if "console_closed" in line]
    assert len(told) == closed
    assert all("set APP__ADMIN_KEY" in line for line in told)


async def test_a_schema_newer_than_the_code_ends_the_start_with_one_line(deployed: Deployment) -> None:
    await deployed.order_rows("UPDATE alembic_version SET version_num = '9999' RETURNING version_num")

    for command in ("serve", "migrate"):
        finished = await run(
            COMMANDS / "order-service",
            command,
            settings=NO_BROKER | {"APP__DB_DSN": deployed.order_dsn, "APP__PORT": "0"},
        )
        assert finished.code == 1
        assert len(finished.errors) == 1 and "9999" in finished.errors[0]


async def test_an_unreachable_database_is_waited_for_by_serve_and_told_by_migrate(
    deployed: Deployment,
) -> None:
    finished = await run(COMMANDS / "order-service", "migrate", settings={"APP__DB_DSN": NOWHERE})
    assert finished.code == 1
    assert len(finished.errors) == 1 and "127.0.0.1:1" in finished.errors[0]
    assert "secret-word" not in finished.errors[0]

    service = await deployed.start_order_service(ready=False, APP__DB_DSN=NOWHERE)
    ready = await request("GET", f"{service.url}/ready")
    assert ready.status == 503 and not ready.json()["checks"]["database"]["ok"]
    assert (await request("GET", f"{service.url}/health")).status == 200
    refused = (await post_all([service.url], [order_body("one")], connections=1))[0]
    assert refused.status == 503 and int(refused.headers["retry-after"]) > 0
    assert await service.stop() == 0


async def test_orders_are_accepted_while_the_broker_was_never_there(deployed: Deployment) -> None:
    service = await deployed.start_order_service(
        ready=False, APP__RABBITMQ_URL="amqp://guest:guest@127.0.0.1:1/"
    )

    async def accepted() -> bool:
        return (await post_all([service.url], [order_body("one")], connections=1))[0].status == 201

    async def the_broker_alone_is_missed() -> bool:
        ready = await request("GET", f"{service.url}/ready")
        checks = ready.json()["checks"]
        assert ready.status == 503
        return {name for name, check in checks.items() if not check["ok"]} == {"broker"}

    await eventually(accepted)
    await eventually(the_broker_alone_is_missed)


async def test_alembic_upgrades_twice_on_a_running_system_and_downgrades_to_nothing(
    deployed: Deployment,
) -> None:
    await deployed.start_order_service()
    await deployed.start_processor_service()
    for service, dsn, rows in (
        ("order-service", deployed.order_dsn, deployed.order_rows),
        ("processor-service", deployed.processor_dsn, deployed.processor_rows),
    ):
        alembic = (sys.executable, "-m", "alembic")
        for arguments in (("upgrade", "head"), ("upgrade", "head"), ("downgrade", "base")):
            finished = await run(
                *alembic, *arguments, settings={"APP__DB_DSN": dsn}, folder=REPOSITORY / service
            )
            assert finished.code == 0, finished.errors
        tables = await rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert [row["tablename"] for row in tables] == ["alembic_version"]


async def test_alembic_without_a_database_says_which_setting_is_missing() -> None:
    finished = await run(
        sys.executable, "-m", "alembic", "upgrade", "head", folder=REPOSITORY / "order-service"
    )

    assert finished.code != 0
    assert "APP__DB_DSN" in finished.errors[-1]


async def test_dead_letters_are_listed_shown_replayed_and_discarded(deployed: Deployment) -> None:
    settings = {"APP__DB_DSN": deployed.processor_dsn}

    async def dead_letters(*arguments: str) -> Finished:
        return await run(COMMANDS / "processor-service", "dead-letters", *arguments, settings=settings)

    for number in range(3):
        await deployed.processor_rows(
            "INSERT INTO dead_letter_queue"
            " (source, event_key, original_event_type, body, failure_reason, attempts)"
            " VALUES ('consumer', $1, 'order.created', $2, 'no reason', 1) RETURNING id",
            f"key-{number}",
            b'{"order_id": "again-%d", "items": []}' % number,
        )
    assert (await dead_letters("list")).output.count("no reason") == 3
    assert "again-0" in (await dead_letters("show", "1")).output
    assert (await dead_letters("show", "99")).code == 1
    assert (await dead_letters("discard", "1", "--reason", "a test")).code == 0
    assert (await dead_letters("replay", "--all")).code == 0
    log = await deployed.processor_rows("SELECT action, operator, reason FROM audit_log ORDER BY id")
    assert [(entry["action"], entry["reason"]) for entry in log] == [
        ("dead_letters.discard", "a test"),
        ("dead_letters.replay", "none given"),
    ]
    assert all(entry["operator"].endswith(", by command") for entry in log)

    await deployed.start_processor_service()

    async def replayed() -> bool:
        rows = await deployed.processor_rows("SELECT order_id FROM processing_states ORDER BY order_id")
        return [row["order_id"] for row in rows] == ["again-1", "again-2"]

    await eventually(replayed)
    assert "no dead letters" in (await dead_letters("list")).output


async def test_a_policy_of_the_users_own_decides(deployed: Deployment, tmp_path: Path) -> None:
    (tmp_path / "our_policy.py").write_text(
        "from processor_service.policy import RetryLater, approve, reject\n"
        "seen = set()\n"
        "async def decide(order):\n"
        "    if order.order_id == 'later' and order.order_id not in seen:\n"
        "        seen.add(order.order_id)\n"
        "        raise RetryLater('not yet', delay_seconds=0.1)\n"
        "    return reject('too expensive') if order.amount > 1000 else approve()\n"
    )
    service = await deployed.start_order_service()
    await deployed.start_processor_service(APP__POLICY="our_policy:decide", PYTHONPATH=str(tmp_path))

    await post_all([service.url], [order_body("dear"), order_body("later")], connections=1)
    await deployed.settled()

    rows = await deployed.processor_rows(
        "SELECT order_id, status, attempt_count, fail_reason FROM processing_states ORDER BY order_id"
    )
    assert [tuple(row) for row in rows] == [
        ("dear", "failed", 1, "too expensive"),
        ("later", "failed", 2, "too expensive"),
    ]


async def test_rules_of_a_file_replace_the_built_in_ones(deployed: Deployment, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nskus = ["laptop"]\nfail_reason = "No laptops"\n')
    service = await deployed.start_order_service()
    await deployed.start_processor_service(APP__RULES_FILE=str(rules))

    await post_all([service.url], [order_body("a"), order_body("b", sku="teapot")], connections=1)
    await deployed.settled()

    rows = await deployed.order_rows("SELECT order_id, status, fail_reason FROM orders ORDER BY order_id")
    assert [tuple(row) for row in rows] == [("a", "failed", "No laptops"), ("b", "done", None)]


async def test_an_event_that_the_broker_lost_is_found_again_by_the_reconciler(deployed: Deployment) -> None:
    service = await deployed.start_order_service(APP__RECONCILE_AFTER_SECONDS="1")
    processor = await deployed.start_processor_service()
    await processor.stop()
    await post_all([service.url], [order_body("lost")], connections=1)
    await eventually(lambda: _published(deployed))
    await purge(deployed)

    await processor.start()

    await deployed.settled()
    states = await deployed.processor_rows("SELECT order_id, attempt_count FROM processing_states")
    assert [tuple(row) for row in states] == [("lost", 1)]


async def _published(deployed: Deployment) -> bool:
    return not (await deployed.order_rows("SELECT 1 FROM outbox"))


async def purge(deployed: Deployment) -> None:
    async with await aio_pika.connect(deployed.rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(deployed.processor_queue)
        await queue.purge()
