"""What is written in one turn of the event loop leaves in one write."""

import asyncio
from typing import cast

import pytest

from service_kit.http.one_write import OneWrite
from service_kit.testing.eventually import eventually


class Recorded:
    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


def _one_write(recorded: Recorded) -> OneWrite:
    return OneWrite(cast(asyncio.Transport, recorded), asyncio.get_running_loop())


async def test_head_and_body_leave_together() -> None:
    recorded = Recorded()
    transport = _one_write(recorded)
    transport.write(b"head ")
    transport.write(b"body")
    assert recorded.calls == []
    await eventually(lambda: recorded.calls == [b"head body"])


async def test_the_next_turn_is_another_write() -> None:
    recorded = Recorded()
    transport = _one_write(recorded)
    transport.write(b"1")
    await eventually(lambda: recorded.calls == [b"1"])
    transport.write(b"2")
    await eventually(lambda: recorded.calls == [b"1", b"2"])


async def test_closing_writes_first_what_is_kept_and_nothing_later() -> None:
    recorded = Recorded()
    transport = _one_write(recorded)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert recorded.calls == [b"last words", "close"]


async def test_everything_else_is_the_transports_own() -> None:
    recorded = Recorded()
    transport = _one_write(recorded)
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing()


async def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    recorded = Recorded()
    transport = _one_write(recorded)
    transport.write(b"too late")
    recorded.calls.append("close")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recorded.calls == ["close"]


async def test_no_other_way_of_writing_goes_past_what_is_kept() -> None:
    with pytest.raises(AttributeError):
        _one_write(Recorded()).writelines([b"past"])
