"""One keep-alive connection: a request, its answer, the next."""

import asyncio
from typing import Protocol, cast

_LENGTH = b"content-length: "


class Owner(Protocol):
    def answered(self, connection: "Connection", status: bytes, answer: bytes) -> None: ...

    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Reads just enough of HTTP to know where an answer ends."""

    __slots__ = ("_owner", "_partial", "_transport", "due_at")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._partial = b""
        self._transport: asyncio.Transport | None = None
        self.due_at = 0.0

    def send(self, request: bytes) -> None:
        assert self._transport
        self._transport.write(request)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        if is_whole(data):
            self._partial = b""
            self._owner.answered(self, data[9:12], data)
        else:
            self._partial = data


def is_whole(data: bytes) -> bool:
    """Whether `data` is an answer to its end."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    at = data.find(_LENGTH, 0, head_end)
    if at < 0:
        return True
    return len(data) >= head_end + 4 + int(data[at + len(_LENGTH) : data.find(b"\r", at)])
