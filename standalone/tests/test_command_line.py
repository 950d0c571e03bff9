"""The command as a program: what it loads, how it says no, and how it behaves in a shell."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service_kit.testing.scripted_http import Answer, ScriptedServer

Run = Callable[..., Awaitable[Any]]
Start = Callable[..., Awaitable[Any]]

COMMAND = Path(sys.executable).parent / "order-processor"
NOWHERE = "http://127.0.0.1:1"
HOSTILE = "x\x1b[2J\x07\u202eevil\x9b31m[red]y[/red]\u2066"
ORDER = {
    "order_id": HOSTILE,
    "customer_id": HOSTILE,
    "status": "failed",
    "total_amount": 10,
    "version": 2,
    "fail_reason": HOSTILE,
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


def answer(document: object, status: int = 200) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(document))


def at(server: ScriptedServer) -> dict[str, str]:
    return {"ORDER_PROCESSOR_URL": server.url, "ORDER_PROCESSOR_PROCESSOR_URL": server.url}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["orders", "--help"], ["orders", "x"]])
def test_help_and_mistakes_load_neither_services_nor_client(arguments: list[str]) -> None:
    looking = (
        "import sys\n"
        "from order_processor import main\n"
        f"try: main.cli({arguments!r})\n"
        "except SystemExit: pass\n"
        "heavy = ('order_service', 'processor_service', 'service_kit.cli', 'order_processor_client',\n"
        "         'httpx', 'asyncpg', 'sqlalchemy', 'starlette', 'structlog', 'uvloop')\n"
        "print('loaded:', [name for name in heavy if name in sys.modules])\n"
    )

    ended = subprocess.run([sys.executable, "-c", looking], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines()[-1] == "loaded: []"


async def test_help_names_every_command(run: Run) -> None:
    ended = await run("--help", settings={"COLUMNS": "100"})

    assert ended.code == 0
    for command in (
        "up",
        "orders",
        "dead-letters",
        "replays",
        "consuming",
        "rules",
        "webhooks",
        "audit",
        "status",
        "top",
    ):
        assert f" {command} " in ended.output
    assert "Exit codes" in ended.output


async def test_the_version_is_shown(run: Run) -> None:
    ended = await run("--version")

    assert (ended.code, ended.errors) == (0, "") and ended.output.startswith("order-processor 0.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["up", "--order-port", "x"],
            "argument --order-port: 'x' is not a port (0 to 65535); see ",
        ),
        (["up", "--order-port", "65536"], "argument --order-port: '65536' is not a port (0 to 65535)"),
        (["orders", "list", "--since", "soon"], "argument --since: 'soon' is no time"),
        (["orders", "list", "--limit", "0"], "argument --limit"),
        (["orders", "submit"], "give either FILE, or --id, --customer and --item"),
        (["orders", "submit", "--id", "a", "--customer", "b", "--item", "c:1"], "'c:1' is no item"),
        (["dead-letters", "replay", "--service", "order", "--reason", "x"], "say which"),
        (["dead-letters", "discard", "1", "--all", "--service", "order", "--reason", "x"], "say which"),
        (["dead-letters", "show", "1"], "--service"),
        (["dead-letters", "show", "1", "--service", "both"], "--service"),
        (["orders", "liist"], "Did you mean 'list'"),
        (["orders", "list", "--hurry"], "--hurry"),
    ],
)
async def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, arguments: list[str], line: str) -> None:
    ended = await run(*arguments)

    assert (ended.code, ended.output) == (2, "")
    assert ended.errors.startswith("order-processor: ") and ended.errors.count("\n") == 1
    assert line in ended.errors and "--help" in ended.errors


async def test_up_needs_no_options(run: Run) -> None:
    ended = await run("up", settings={"APP__SUCCESS_RATE": "2"})  # it ends before it listens anywhere

    assert ended.code == 2 and ended.errors.startswith("order-processor: APP__SUCCESS_RATE")


@pytest.mark.parametrize("url", ["localhost:8000", "http://[::1", "ftp://x"])
async def test_a_url_that_is_none_is_told_in_one_line(run: Run, url: str) -> None:
    ended = await run("orders", "show", "a", "--url", url)

    assert ended.code == 2 and ended.errors.count("\n") == 1 and url in ended.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["orders", "show", "a"],
        ["orders", "list", "--json"],
        ["dead-letters", "groups"],
        ["rules", "show"],
        ["audit"],
        ["consuming", "pause", "--service", "order", "--reason", "x"],
    ],
)
async def test_nobody_at_the_url_is_one_line_and_exit_code_3(run: Run, arguments: list[str]) -> None:
    nowhere = {"ORDER_PROCESSOR_URL": NOWHERE, "ORDER_PROCESSOR_PROCESSOR_URL": NOWHERE}

    ended = await run(*arguments, settings=nowhere)

    assert (ended.code, ended.output) == (3, "")
    assert ended.errors.count("\n") == 1 and NOWHERE in ended.errors and "--url" in ended.errors


async def test_status_tells_who_cannot_be_reached(run: Run) -> None:
    ended = await run("status", "--url", NOWHERE, "--processor-url", NOWHERE)

    assert ended.code == 3
    assert ended.output.count("not reachable") == 4

    ended = await run("status", "--url", NOWHERE, "--processor-url", NOWHERE, "--json")
    assert ended.code == 3 and not ended.json["order"]["reachable"]


@pytest.mark.parametrize(("status", "code"), [(400, 1), (401, 5), (403, 5), (404, 4), (409, 4), (500, 1)])
async def test_each_refusal_has_its_exit_code(
    run: Run, server: ScriptedServer, status: int, code: int
) -> None:
    problem = {"status": status, "error_type": "Refused", "detail": HOSTILE}
    server.will_answer(answer(problem, status))

    ended = await run("orders", "cancel", "a", settings=at(server))

    assert (ended.code, ended.output) == (code, "")
    assert "\x1b" not in ended.errors and "\u202e" not in ended.errors and "\x9b" not in ended.errors


@pytest.mark.parametrize("arguments", [["orders", "show", "a"], ["orders", "list"]])
@pytest.mark.parametrize("json", [False, True])
async def test_what_could_command_a_terminal_is_escaped(
    run: Run, server: ScriptedServer, arguments: list[str], json: bool
) -> None:
    server.will_answer(answer(ORDER if "show" in arguments else {"data": [ORDER], "has_more": False}))

    ended = await run(*arguments, *(["--json"] if json else []), settings=at(server))

    assert ended.code == 0
    assert not any(character in ended.output for character in "\x1b\x07\u202e\x9b\u2066")
    if json:
        assert ended.json["order_id"] == HOSTILE and ended.output.isascii()
    else:
        assert "\\x1b[2J" in ended.output and "[red]y[/red]" in ended.output


async def test_an_answer_of_something_else_is_told_in_one_line(run: Run, server: ScriptedServer) -> None:
    server.will_answer(Answer(body=b"<html>\x1b[2J"))

    ended = await run("orders", "show", "a", settings=at(server))

    assert ended.code == 1 and ended.errors.count("\n") == 1 and "\x1b" not in ended.errors


async def test_a_reader_that_has_seen_enough_is_no_failure(server: ScriptedServer) -> None:
    page = {"data": [ORDER | {"order_id": f"order-{n}"} for n in range(100)], "has_more": True}
    server.will_answer(answer(page))
    piped = f"{COMMAND} orders list --json --limit 100000 | head -n 1; echo ${{PIPESTATUS[0]}}"

    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", piped, env=at(server) | {"PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await shell.communicate()

    assert (output.split()[-1], errors) == (b"0", b"")


async def test_ctrl_c_is_no_traceback(start: Start, server: ScriptedServer) -> None:
    server.will_answer(answer(ORDER | {"status": "pending"}))
    running = await start("orders", "watch", "a", settings=at(server))
    while not server.asked:
        await asyncio.sleep(0.01)

    running.process.send_signal(signal.SIGINT)
    ended = await running.ended()

    assert (ended.code, ended.output) == (130, "") and "Traceback" not in ended.errors


async def test_ctrl_c_before_the_answer_says_that_a_replay_may_have_begun(
    start: Start, server: ScriptedServer
) -> None:
    server.will_answer(Answer(seconds=1))
    everything = ("--all", "--service", "order", "--reason", "mended", "--yes")
    running = await start("dead-letters", "replay", *everything, settings=at(server))
    while not server.asked:
        await asyncio.sleep(0.01)

    running.process.send_signal(signal.SIGINT)
    ended = await running.ended()

    assert (ended.code, ended.output) == (130, "")
    assert "it may have begun and go on; look: order-processor replays list --service order" in ended.errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_completion_script_is_made(run: Run, shell: str) -> None:
    ended = await run(settings={"_ORDER_PROCESSOR_COMPLETE": f"source_{shell}"})

    assert ended.code == 0 and "order-processor" in ended.output


async def test_commands_and_options_are_completed(run: Run) -> None:
    async def completed(line: str) -> list[str]:
        words = {"_ORDER_PROCESSOR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "2"}
        output: str = (await run(settings=words)).output
        return output.split()

    assert await completed("order-processor orders s") == ["submit", "show"]
    assert "--processor-url" in await completed("order-processor status --p")


async def test_colours_are_for_terminals_that_want_them(start: Start, server: ScriptedServer) -> None:
    server.will_answer(answer(ORDER))
    for settings, options, coloured in (
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1"}, ["--no-color"], False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({}, [], False),
    ):
        ended = await (await start("orders", "show", "a", *options, settings=at(server) | settings)).ended()
        assert ("\x1b[31m" in ended.output) is coloured, (settings, options)


async def test_a_file_is_looked_at_before_anything_is_sent(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "orders.json"
    broken.write_text('[{"order_id": 1}, {]')
    for file, words in (
        (tmp_path / "missing.json", "cannot read"),
        (tmp_path, "cannot read"),
        (broken, "neither an order, nor a JSON array, nor one order a line"),
    ):
        ended = await run("orders", "submit", file, settings={"ORDER_PROCESSOR_URL": NOWHERE})
        assert (ended.code, ended.output) == (2, "") and words in ended.errors

    ended = await run("orders", "submit", "-", stdin=b" \n", settings={"ORDER_PROCESSOR_URL": NOWHERE})
    assert ended.code == 2 and "stdin" in ended.errors
