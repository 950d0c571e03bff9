import json
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Start = Callable[..., "subprocess.Popen[str]"]
Line = dict[str, Any]


def wait_for(process: "subprocess.Popen[str]", event: str) -> Line:
    """Read the log until this event."""
    assert process.stdout
    for text in process.stdout:
        line: Line = json.loads(text)
        if line["event"] == event:
            return line
    pytest.fail(f"the process ended without {event}: {process.communicate()[1]}")


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, list[Line]]:
    """Exit code, stderr, and the rest of the log."""
    out, err = process.communicate(timeout=60)
    return process.returncode, err, [json.loads(text) for text in out.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_answers_what_is_in_flight_and_exits_with_0(start: Start, number: int) -> None:
    process = start("serve")
    url = wait_for(process, "service_listening")["url"]
    wait_for(process, "service_ready")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{url}/slow").text))
    asking.start()
    wait_for(process, "slow_asked")

    process.send_signal(number)

    asking.join()
    code, err, lines = ended(process)
    assert (code, err, answers) == (0, "", ["answered"])
    assert [line["event"] for line in lines] == ["service_stopping", "service_stopped"]


def test_a_second_ctrl_c_ends_the_process_at_once_with_130(start: Start) -> None:
    process = start("serve", APP__TROUBLE="stubborn", APP__SHUTDOWN_GRACE_SECONDS="3600")
    wait_for(process, "service_ready")
    process.send_signal(signal.SIGINT)
    wait_for(process, "service_stopping")

    process.send_signal(signal.SIGINT)

    assert ended(process)[0] == 130


def test_what_does_not_finish_in_the_grace_time_is_named_and_the_exit_code_is_still_0(start: Start) -> None:
    process = start("serve", APP__TROUBLE="stubborn", APP__SHUTDOWN_GRACE_SECONDS="0.3")
    wait_for(process, "service_ready")

    process.send_signal(signal.SIGTERM)

    code, err, lines = ended(process)
    assert (code, err) == (0, "")
    assert "background_services_cut_off" in [line["event"] for line in lines]


def test_a_thread_that_hangs_does_not_keep_the_process(start: Start) -> None:
    process = start("serve", APP__TROUBLE="thread", APP__SHUTDOWN_GRACE_SECONDS="0.3")
    wait_for(process, "service_listening")

    process.send_signal(signal.SIGTERM)

    assert ended(process)[:2] == (0, "")


def test_a_process_that_waits_for_its_database_can_be_stopped(start: Start) -> None:
    process = start("serve", APP__TROUBLE="down")
    assert wait_for(process, "service_waiting")["reason"] == "database: connection refused"

    process.send_signal(signal.SIGTERM)

    assert ended(process)[:2] == (0, "")


def test_a_taken_port_is_one_line_and_exit_code_1(start: Start) -> None:
    first = start("serve")
    port = wait_for(first, "service_listening")["url"].rpartition(":")[2]

    code, err, _ = ended(start("serve", APP__PORT=port))

    assert (code, err) == (
        1,
        f"probe-service: cannot listen on 127.0.0.1:{port}: the port is taken by another process; "
        "choose another with APP__PORT\n",
    )


def test_bad_settings_are_one_line_each_and_exit_code_2(start: Start) -> None:
    code, err, lines = ended(start("serve", APP__PORT="many", APP__DB_DSN="mysql://u:hunter2@h/d"))

    assert (code, len(err.splitlines()), lines) == (2, 2, [])
    assert "APP__PORT='many'" in err
    assert "hunter2" not in err


def test_the_settings_are_logged_at_the_start_without_passwords(start: Start) -> None:
    process = start("serve", APP__PROT="8000")

    warning = wait_for(process, "setting_unknown")
    starting = wait_for(process, "service_starting")

    assert "APP__PORT" in warning["detail"]
    assert starting["settings"]["db_dsn"] == "postgresql://u:***@localhost/orders"


def test_migrate_prints_the_revision_and_logs_to_stderr(start: Start) -> None:
    process = start("migrate")
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (0, "the database is at revision 0001\n", "")


def test_a_database_that_is_down_ends_a_migration_with_one_line_and_1(start: Start) -> None:
    assert ended(start("migrate", APP__TROUBLE="down"))[:2] == (
        1,
        "probe-service: database: connection refused\n",
    )


def test_a_bug_is_one_line_too(start: Start) -> None:
    code, err, _ = ended(start("migrate", APP__TROUBLE="bug"))

    assert (code, err) == (
        1,
        "probe-service: unexpected KeyError: 'internals' (APP__LOG_LEVEL=DEBUG shows where)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["dead-letters", "show", "x\x1b[31m"], "is not a number above 0"),
        (["dead-letters", "replay"], "required"),
        (["dead-letters", "discard", "1"], "--reason"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(start: Start, arguments: list[str], complaint: str) -> None:
    code, err, _ = ended(start(*arguments))

    assert (code, len(err.splitlines())) == (2, 1)
    assert complaint in err
    assert "\x1b" not in err


def test_help_names_every_setting(start: Start) -> None:
    process = start("serve", "--help")
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "APP__DB_DSN" in out
    assert "APP__EVENTS_PER_MESSAGE" in out
