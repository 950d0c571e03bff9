"""An answer's head and body in one write: one system call and one packet instead of two."""

import asyncio
from typing import Any


class OneWrite:
    """A transport that keeps what is written until the event loop's next turn, and then writes it at once.

    uvicorn writes head and body apart. Closing writes what is kept; everything else is the transport's own,
    and what would write by another way than `write` is not there.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self._write_kept)
        self._kept.append(data)

    def close(self) -> None:
        self._write_kept()
        self._transport.close()

    def _write_kept(self) -> None:
        if self._kept:
            data, self._kept = b"".join(self._kept), []
            if not self._transport.is_closing():  # the client may be gone by now
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("write"):
            raise AttributeError(name)
        return getattr(self._transport, name)
