"""Failpoints: inert unless armed, and then deadly at the passage that was named."""

import signal
import subprocess
import sys

import pytest

from service_kit import failpoints
from service_kit.errors import StartupError


def test_a_point_that_is_not_armed_does_nothing() -> None:
    failpoints.arm({})
    failpoints.passed("relay.confirmed")


def test_the_process_kills_itself_at_the_named_passage_of_the_named_point() -> None:
    code = (
        "from service_kit import failpoints\n"
        "failpoints.arm({'FAILPOINT': 'relay.confirmed:2'})\n"
        "for name in ('relay.confirmed', 'another', 'relay.confirmed', 'relay.confirmed'):\n"
        "    print(name, flush=True)\n"
        "    failpoints.passed(name)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines()[-2:] == ["another", "relay.confirmed"]
    assert ended.stdout.splitlines().count("relay.confirmed") == 2


@pytest.mark.parametrize("text", ["relay.confirmed", "relay.confirmed:", "relay.confirmed:0", ":3", "a:-1"])
def test_a_setting_without_a_meaning_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match="FAILPOINT"):
        failpoints.arm({"FAILPOINT": text})
