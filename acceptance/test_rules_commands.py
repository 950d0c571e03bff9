"""`processor-service rules` as somebody types it, and a rules file that changes under a running service."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from acceptance.deployment import Deployment
from acceptance.http_client import HttpConnection
from acceptance.load import order_body, post_all
from acceptance.processes import COMMANDS
from acceptance.test_commands import Finished, run
from service_kit.testing.eventually import eventually

KEY = "a-key-of-the-operators"
GOOD = '[[rules]]\nskus = ["piano", "organ"]\nfail_reason = "Too heavy"\n'

InForce = Callable[[], Awaitable[Mapping[str, object]]]


async def rules(*arguments: str | Path, dsn: str | None = None) -> Finished:
    settings = {"APP__DB_DSN": dsn} if dsn else {}
    return await run(COMMANDS / "processor-service", "rules", *map(str, arguments), settings=settings)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


async def test_a_good_file_is_told_with_its_version_and_rules_and_needs_no_database(path: Path) -> None:
    finished = await rules("check", path)

    assert (finished.code, finished.errors) == (0, [])
    first, *lines = finished.output.splitlines()
    assert first.startswith(f"{path} is a ruleset, version ")
    assert lines == [
        "rule 1: organ, piano → failed: Too heavy",
        "any other order: done, at the rate 1 of APP__SUCCESS_RATE",
    ]


async def test_each_fault_of_a_file_is_a_line_with_its_rule(path: Path) -> None:
    path.write_text(GOOD + '[[rules]]\nskus = []\n"\\u001b[31m" = 1\n', encoding="utf-8")

    finished = await rules("check", path)

    assert (finished.code, finished.output) == (1, "")
    begin = f"processor-service: {path}: rule 2: "
    assert finished.errors == [
        f"{begin}'\\x1b[31m' is not a known field",
        f"{begin}fail_reason is missing",
        f"{begin}skus must be an array of at least one string",
    ]


async def test_what_is_no_toml_is_told_with_its_line(path: Path) -> None:
    path.write_text(GOOD + "\noops\n", encoding="utf-8")

    finished = await rules("rehearse", path, dsn="postgresql://nobody@127.0.0.1:1/none")

    assert finished.code == 1
    [line] = finished.errors
    assert line.startswith(f"processor-service: {path}: line 5: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "missing.toml"], "cannot read missing.toml: No such file or directory"),
        (["check", "."], "cannot read .: Is a directory"),
        (["check"], "FILE"),
        (["rehearse", "missing.toml"], "APP__DB_DSN is not set"),
        (["rehearse", "rules.toml", "--last", "0"], "'0' is not a number above 0"),
        ([], "ACTION"),
    ],
)
async def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    finished = await rules(*arguments)

    assert finished.code == 2
    [line] = finished.errors
    assert words in line


async def test_a_database_that_is_away_is_one_line_and_exit_code_1(path: Path) -> None:
    finished = await rules("rehearse", path, dsn="postgresql://nobody@127.0.0.1:1/none")

    assert finished.code == 1
    [line] = finished.errors
    assert "127.0.0.1:1" in line


async def test_a_ruleset_is_rehearsed_on_past_orders(deployed: Deployment, path: Path) -> None:
    service = await deployed.start_order_service()
    await deployed.start_processor_service()
    hostile = "evil\u2028\u202e"
    orders = {"a": "piano", "b": "teapot", "c": "lamp", hostile: "organ"}
    await post_all([service.url], [order_body(id, sku=sku) for id, sku in orders.items()], connections=1)
    await deployed.settled()

    told = await rules("rehearse", path, dsn=deployed.processor_dsn)
    as_json = await rules("rehearse", path, "--last", "2", "--json", dsn=deployed.processor_dsn)

    assert (told.code, told.errors) == (0, [])
    first, heading, *rows = told.output.splitlines()
    assert first.endswith(": 4 orders, 1 unchanged, 3 changed")
    assert heading.split() == ["orders", "before", "now", "for", "example"]
    assert rows[0].split()[:5] == ["2", "done", "failed:", "Too", "heavy"]
    assert "a (rule 1: piano)" in rows[0] and "evil\\u2028\\u202e (rule 1: organ)" in rows[0]
    assert rows[1].split()[:5] == ["1", "failed:", "Pineapple/teapot", "embargo", "done"]
    report = json.loads(as_json.output)
    assert (report["orders"], report["changed"]) == (2, 1)
    assert report["changes"][0]["examples"] == [{"order_id": hostile, "rule": 1, "sku": "organ"}]


async def test_a_changed_file_comes_into_force_and_a_broken_one_does_not(
    deployed: Deployment, path: Path
) -> None:
    processor = await deployed.start_processor_service(APP__RULES_FILE=str(path), APP__ADMIN_KEY=KEY)
    service = await deployed.start_order_service()
    connection = HttpConnection(processor.url)

    async def in_force() -> Mapping[str, object]:
        headers = {"authorization": f"Bearer {KEY}"}
        answer = await connection.request("GET", "/admin/rules", headers=headers)
        return cast("Mapping[str, object]", answer.json())

    async def fail_reason_of(order_id: str) -> object:
        await post_all([service.url], [order_body(order_id, sku="piano")], connections=1)
        await deployed.settled()
        rows = await deployed.order_rows("SELECT fail_reason FROM orders WHERE order_id = $1", order_id)
        return rows[0]["fail_reason"]

    before = await in_force()
    assert await fail_reason_of("first") == "Too heavy"

    path.write_text(GOOD.replace("Too heavy", "Out of stock"), encoding="utf-8")
    after = await eventually(lambda: _changed(in_force, before), within_seconds=30)
    assert await fail_reason_of("second") == "Out of stock"

    path.write_text("oops", encoding="utf-8")
    broken = await eventually(lambda: _problem(in_force), within_seconds=30)
    assert await fail_reason_of("third") == "Out of stock"
    connection.close()

    assert broken["version"] == after["version"]
    assert str(broken["problem"]).startswith("line 1: ")
    errors = [
        entry["event"]
        for entry in (msgspec.json.decode(line) for line in processor.log_lines())
        if entry["level"] == "error"
    ]
    assert errors == ["rules_file_broken"]
    versions = await deployed.processor_rows(
        "SELECT order_id, ruleset_version FROM processing_states ORDER BY decided_at"
    )
    assert [tuple(row) for row in versions] == [
        ("first", before["version"]),
        ("second", after["version"]),
        ("third", after["version"]),
    ]


async def _changed(in_force: InForce, before: Mapping[str, object]) -> Mapping[str, object] | None:
    told = await in_force()
    return told if told["version"] != before["version"] else None


async def _problem(in_force: InForce) -> Mapping[str, object] | None:
    told = await in_force()
    return told if told["problem"] else None
