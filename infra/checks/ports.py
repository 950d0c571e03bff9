"""Ports that nobody listens on."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """All different; held until the end of the block."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def taken(port: int) -> Iterator[None]:
    with socket.create_server(("0.0.0.0", port)):
        yield
