import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import structlog

from service_kit.cli import Commands, run
from service_kit.errors import DatabaseUnavailable
from service_kit.failures import DeadLetter, DeadLetters
from service_kit.settings import Name, Port, Settings

EVIL = "\x1b]0;owned\x07 \u202egnp.exe \x9b31m"


class ProbeSettings(Settings, frozen=True, kw_only=True):
    service_name: Name = "probe-service"
    port: Port = 0


class FakeDeadLetters:
    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        self.letters = {letter.id: letter for letter in letters}
        self.replayed: list[int] = []
        self.reasons: list[str] = []

    async def list(self, *, limit: int, after_id: int = 0) -> Sequence[DeadLetter]:
        return [letter for letter in self.letters.values() if letter.id > after_id][:limit]

    async def get(self, dead_letter_id: int) -> DeadLetter | None:
        return self.letters.get(dead_letter_id)

    async def replay(self, ids: Collection[int]) -> int:
        found = [id for id in ids if self.letters.pop(id, None)]
        self.replayed += found
        return len(found)

    async def discard(self, ids: Collection[int], *, reason: str) -> int:
        self.reasons.append(reason)
        return len([id for id in ids if self.letters.pop(id, None)])


def letter(id: int, body: bytes = b'{"order_id":"o-1"}', reason: str = "not JSON") -> DeadLetter:
    return DeadLetter(
        id=id,
        event_type="order.created",
        event_key=f"order.created:o-{id}:1",
        reason=reason,
        attempts=10,
        times_seen=1,
        body=body,
        message_id="m-1",
        headers={"traceparent": "00-1", "x": reason},
        moved_to_dlq_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def letters() -> FakeDeadLetters:
    return FakeDeadLetters([letter(id) for id in range(1, 121)])


@pytest.fixture
def command(letters: FakeDeadLetters, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """`command("list", "--json")`: the exit code, stdout and stderr of `dead-letters list --json`."""

    @asynccontextmanager
    async def opened(_: ProbeSettings) -> AsyncIterator[DeadLetters]:
        yield letters

    async def nothing(_: ProbeSettings) -> str:
        raise NotImplementedError

    async def serve(_: ProbeSettings) -> None:
        raise NotImplementedError

    commands = Commands(
        name="probe-service",
        description="",
        settings=ProbeSettings,
        serve=serve,
        migrate=nothing,
        dead_letters=opened,
    )

    def execute(*arguments: str) -> tuple[int, str, str]:
        code = run(commands, ["dead-letters", *arguments], {"APP__DB_DSN": "postgresql://localhost/orders"})
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield execute
    root.handlers = before[0]
    root.setLevel(before[1])
    logging.captureWarnings(False)
    structlog.reset_defaults()


def test_list_shows_a_row_for_each(command: Command) -> None:
    code, out, _ = command("list", "--limit", "2", "--after", "7")

    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["id", "moved", "at", "(UTC)", "event", "attempts", "seen", "key", "reason"]
    assert rows[0].split() == [
        *["8", "2026-01-02", "03:04:05", "order.created", "10", "1", "order.created:o-8:1", "not", "JSON"]
    ]
    assert len(rows) == 2


def test_list_reads_as_many_pages_as_it_takes(command: Command) -> None:
    _, out, _ = command("list", "--limit", "115", "--json")

    assert [json.loads(line)["id"] for line in out.splitlines()] == list(range(1, 116))


def test_nothing_to_list_is_said(command: Command, letters: FakeDeadLetters) -> None:
    letters.letters.clear()

    assert command("list")[:2] == (0, "no dead letters\n")
    assert command("list", "--json")[:2] == (0, "")


def test_json_has_everything_and_bytes_that_are_no_text_as_base64(
    command: Command, letters: FakeDeadLetters
) -> None:
    letters.letters = {1: letter(1, body=b"\xff\x00"), 2: letter(2)}

    _, out, _ = command("list", "--json")

    bytes_, text = (json.loads(line) for line in out.splitlines())
    assert bytes_["body_base64"] == "/wA="
    assert text == {
        "id": 2,
        "event_type": "order.created",
        "event_key": "order.created:o-2:1",
        "reason": "not JSON",
        "attempts": 10,
        "times_seen": 1,
        "moved_to_dlq_at": "2026-01-02T03:04:05+00:00",
        "message_id": "m-1",
        "headers": {"traceparent": "00-1", "x": "not JSON"},
        "body": '{"order_id":"o-1"}',
    }


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "1"], ["show", "1", "--json"]])
def test_nothing_that_could_command_a_terminal_reaches_it(
    command: Command, letters: FakeDeadLetters, arguments: list[str]
) -> None:
    letters.letters = {1: letter(1, body=EVIL.encode() + b"\xff\x9b", reason=EVIL)}

    code, out, _ = command(*arguments)

    assert code == 0
    assert all(character.isprintable() for character in out.replace("\n", ""))


def test_show_keeps_the_lines_of_the_body(command: Command, letters: FakeDeadLetters) -> None:
    letters.letters = {1: letter(1, body=b"one\ntwo \xff")}

    assert command("show", "1")[1].splitlines()[-2:] == ["one", "two \\xff"]


def test_to_show_what_is_not_there_is_an_error(command: Command) -> None:
    assert command("show", "999") == (1, "", "probe-service: there is no dead letter 999\n")


def test_replay_hands_back_the_named_ones_and_tells_which_were_missing(
    command: Command, letters: FakeDeadLetters
) -> None:
    assert command("replay", "3", "1")[:2] == (0, "2 replayed\n")
    assert command("replay", "3", "4")[:2] == (1, "1 replayed, 1 not there\n")
    assert letters.replayed == [3, 1, 4]


def test_replay_all_hands_back_every_one(command: Command, letters: FakeDeadLetters) -> None:
    assert command("replay", "--all")[:2] == (0, "120 replayed\n")
    assert command("replay", "--all")[:2] == (0, "0 replayed\n")
    assert letters.replayed == list(range(1, 121))


def test_discard_needs_a_reason_and_hands_it_on(command: Command, letters: FakeDeadLetters) -> None:
    assert command("discard", "1", "2", "--reason", "a test order")[:2] == (0, "2 discarded\n")
    assert letters.reasons == ["a test order"]


def test_a_database_that_is_down_is_one_line(
    command: Command, letters: FakeDeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(**_: object) -> Sequence[DeadLetter]:
        raise DatabaseUnavailable("database: connection refused")

    monkeypatch.setattr(letters, "list", down)

    assert command("list") == (1, "", "probe-service: database: connection refused\n")
