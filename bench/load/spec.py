"""What the load generator is told, and what it tells."""

from collections.abc import Mapping
from typing import Literal

import msgspec

ID_WIDTH = 10
_SCRAMBLE, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1

# Both bodies are of fixed length for ids of fixed length, so that a request is made by one formatting.
_BODY = (
    b'{"order_id":"%s","customer_id":"customer-17","items":[{"sku":"laptop","quantity":1,"price":1200.0},'
    b'{"sku":"mouse","quantity":2,"price":25.5}]}'
)
ITEMS = '[{"sku": "laptop", "price": 1200, "quantity": 1}, {"sku": "mouse", "price": 25.5, "quantity": 2}]'
AMOUNT = "1251"


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`rate`: requests are due at so many a second whether or not earlier ones are answered (None: each
    connection sends its next one when the last is answered). `allowance`: how many may be begun at first;
    None is no limit. `seconds` count from the end of `warm_seconds`, which are not measured.

    `ids`: `ordered` as numbers or time-ordered UUIDs are, or `random` as UUIDs are. `times_file` takes
    the time at which each order was due, as doubles.
    """

    port: int
    connections: int
    seconds: float
    prefix: str = "o"
    host: str = "127.0.0.1"
    kind: Literal["post", "get"] = "post"
    ids: Literal["ordered", "random"] = "ordered"
    warm_seconds: float = 1.0
    rate: float | None = None
    count: int | None = None
    allowance: int | None = None
    known: int = 0
    """`get` asks for the first so many orders of this prefix, in turn."""
    times_file: str | None = None
    key: str | None = None
    """Sent with each request."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """`good` are answers 2xx within `seconds`; latencies, in seconds, are of all good answers in them."""

    seconds: float
    good: int
    good_ever: int
    statuses: Mapping[str, int]
    without_retry_after: int
    broken: int
    late: int
    """Requests that were due and had not been sent when the load stopped."""
    percentiles: Mapping[str, float]
    slowest_seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.good / self.seconds if self.seconds else 0.0


def order_id(spec: LoadSpec, number: int) -> str:
    if spec.ids == "random":
        return f"{number * _SCRAMBLE & _MASK:016x}-{spec.prefix}"
    return f"{spec.prefix}-{number:0{ID_WIDTH}d}"


def request_template(spec: LoadSpec) -> bytes:
    """The bytes of a request, with `%s` for the order's id."""
    example = order_id(spec, 0).encode()
    key = f"authorization: Bearer {spec.key}\r\n".encode() if spec.key else b""
    if spec.kind == "get":
        return b"GET /orders/%s HTTP/1.1\r\nhost: bench\r\n" + key + b"\r\n"
    head = b"POST /orders HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n" + key
    return head + b"content-length: " + str(len(_BODY % example)).encode() + b"\r\n\r\n" + _BODY
