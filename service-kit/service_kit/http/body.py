"""Reading a request's body within limits of size and time."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from service_kit.http.problems import Problem

BODY_BYTES_MAX = 1_048_576

WHOLE_BODY = "service_kit.whole_body"
"""Of a request's scope: set by the server as soon as nothing more of the body is to come."""


async def read_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX, seconds_max: float = 30.0) -> bytes:
    """The whole body, whatever its content type.

    Raises Problem 413 as soon as it is announced to be, or grows, larger than `bytes_max`; Problem 408 when
    it is not complete within `seconds_max`; ClientDisconnect when the client went away.
    """
    if WHOLE_BODY in request.scope:  # most come with their head, and need no timer
        return await _read(request, bytes_max)
    if _announced_bytes(request) > bytes_max:
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(seconds_max):
            return await _read(request, bytes_max)
    except TimeoutError:
        raise _too_slow(seconds_max) from None


async def body_chunks(request: Request, *, bytes_max: int, seconds_max: float) -> AsyncIterator[bytes]:
    """The body piece by piece, as it comes: nobody keeps it, and the client sends no faster than it is taken.

    Raises as `read_body` does; of the time only that counts in which we wait for the client.
    """
    if _announced_bytes(request) > bytes_max:
        raise _too_large(bytes_max)
    clock = asyncio.get_running_loop().time
    size, seconds_left = 0, seconds_max
    while True:
        asked_at = clock()
        try:
            async with asyncio.timeout(seconds_left):
                message = await request.receive()
        except TimeoutError:
            raise _too_slow(seconds_max) from None
        seconds_left -= clock() - asked_at
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        yield chunk
        if not message.get("more_body", False):
            return


async def _read(request: Request, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)


def _announced_bytes(request: Request) -> int:
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _too_large(bytes_max: int) -> Problem:
    return Problem(413, "PayloadTooLarge", f"The body may have {bytes_max} bytes at most.")


def _too_slow(seconds_max: float) -> Problem:
    detail = f"The body was not complete within {seconds_max:g} seconds."
    return Problem(408, "RequestTimeout", detail, headers={"connection": "close"})
