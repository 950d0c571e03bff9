"""How much one key, and one address, may ask for: token buckets in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil
from time import monotonic

from starlette.types import Scope

from service_kit.http.principal import PRINCIPAL, Principal
from service_kit.http.problems import Problem

BURST_SECONDS = 5
"""A bucket holds what comes in so many seconds."""

HEADERS = "service_kit.rate_limit_headers"
"""Of a request's scope: what its answer says of the limits."""

_KEPT = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """`per_second` tokens for each name, with bursts of `BURST_SECONDS` times as many.

    Names are remembered as long as they are among the last 10,000 that asked; a forgotten one has a full
    bucket, so that whoever has more names than that is slowed down by nothing here.
    """

    def __init__(
        self,
        policy: str,
        per_second: float,
        *,
        clock: Callable[[], float] = monotonic,
        kept: int = _KEPT,
    ) -> None:
        self._per_second = per_second
        self._size = max(1.0, per_second * BURST_SECONDS)
        self._clock = clock
        self._kept = kept
        self._buckets: dict[str, _Bucket] = {}
        self._policy = policy
        self._said = f'"{policy}";q={int(self._size)};w={ceil(self._size / per_second)}'

    def take(self, name: str) -> dict[str, str]:
        """One token; the headers that say what is left. Raises Problem 429, which says when to come again."""
        bucket = self._bucket(name)
        if bucket.tokens < 1:
            seconds = ceil((1 - bucket.tokens) / self._per_second)
            headers = self._headers(bucket)
            detail = f"Too many requests: this {self._policy} may send {self._per_second:g} a second."
            raise Problem(429, "TooManyRequests", detail, retry_after_seconds=seconds, headers=headers)
        bucket.tokens -= 1
        return self._headers(bucket)

    def charge(self, name: str, tokens: int) -> None:
        """What a request cost beyond its first token. A debt is paid by whoever comes next."""
        self._bucket(name).tokens -= tokens

    def _bucket(self, name: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = _Bucket(self._size, now)
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[name] = bucket  # as the last that asked
        if len(self._buckets) > self._kept:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def _headers(self, bucket: _Bucket) -> dict[str, str]:
        """By draft-ietf-httpapi-ratelimit-headers-10: what is left, and in how many seconds all is there."""
        left, refill = max(0, int(bucket.tokens)), ceil((self._size - bucket.tokens) / self._per_second)
        return {"ratelimit-policy": self._said, "ratelimit": f'"{self._policy}";r={left};t={refill}'}


class RateLimits:
    """Of addresses before anything else is looked at, and of keys once they are known; None: no limit."""

    def __init__(self, *, per_key: RateLimit | None = None, per_address: RateLimit | None = None) -> None:
        self._per_key = per_key
        self._per_address = per_address

    @classmethod
    def of(cls, *, per_key: float | None, per_address: float | None) -> "RateLimits":
        """A second."""
        return cls(
            per_key=RateLimit("key", per_key) if per_key else None,
            per_address=RateLimit("address", per_address) if per_address else None,
        )

    def take_of_address(self, scope: Scope) -> None:
        """Raises Problem 429."""
        if self._per_address:
            scope[HEADERS] = self._per_address.take(address_of(scope))

    def take_of_key(self, scope: Scope, principal: Principal) -> None:
        """Raises Problem 429."""
        if self._per_key and principal.id:
            scope[HEADERS] = self._per_key.take(principal.id)

    def charge(self, scope: Scope, tokens: int) -> None:
        if self._per_address:
            self._per_address.charge(address_of(scope), tokens)
        principal: Principal = scope[PRINCIPAL]
        if self._per_key and principal.id:
            self._per_key.charge(principal.id, tokens)


UNLIMITED = RateLimits()


def address_of(scope: Scope) -> str:
    """Of the peer; of IPv6 the network (/64), which is what one customer of a provider has."""
    client = scope.get("client")
    text = str(client[0]) if client else "unknown"
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.exploded[:19]
    return text
