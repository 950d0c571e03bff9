"""API keys as one process knows them: most requests are answered from memory."""

import asyncio
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from time import monotonic
from typing import NamedTuple

from service_kit.api_keys import hash_of, is_well_formed
from service_kit.http.principal import Principal

KNOWN_SECONDS = 5.0
"""So long a key that was revoked elsewhere may still be taken."""
_KEPT_MAX = 10_000


class FoundKey(NamedTuple):
    """A usable key; `seconds_left` until it expires, None when it never does."""

    hash: bytes
    principal: Principal
    seconds_left: float | None


class _Known(NamedTuple):
    hash: bytes
    principal: Principal | None
    until: float


class KeyRing:
    """Implements Credentials.

    Asks `find` for a key by its hash, at most once in `KNOWN_SECONDS`, however many requests bring it.
    Looking a hash up takes a time that depends on the hash alone, which tells nothing of a key. Unknown keys
    are remembered apart, so that whoever tries many displaces none that is good.
    """

    def __init__(
        self,
        find: Callable[[bytes], Awaitable[FoundKey | None]],
        *,
        clock: Callable[[], float] = monotonic,
        kept_max: int = _KEPT_MAX,
    ) -> None:
        self._find = find
        self._clock = clock
        self._kept_max = kept_max
        self._good: dict[bytes, _Known] = {}
        self._unknown: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[_Known]] = {}

    async def principal(self, key: bytes) -> Principal | None:
        """Whose key it is, None when it is not usable. Raises Unavailable when that cannot be found out."""
        digest = hash_of(key)
        known = self._good.get(digest) or self._unknown.get(digest)
        if known is None or known.until <= self._clock():
            if not is_well_formed(key):
                return None
            known = await self._ask(digest)
        return known.principal if compare_digest(known.hash, digest) else None

    def forget(self) -> None:
        """After a change in this process: it counts here at once."""
        self._good.clear()
        self._unknown.clear()

    async def _ask(self, digest: bytes) -> _Known:
        """One question for all who wait for its answer; who goes away takes it from nobody."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._look_up(digest))
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def _look_up(self, digest: bytes) -> _Known:
        asked_at = self._clock()
        found = await self._find(digest)
        self._good.pop(digest, None)
        if found is None:
            return self._keep(self._unknown, _Known(digest, None, asked_at + KNOWN_SECONDS))
        self._unknown.pop(digest, None)
        left = KNOWN_SECONDS if found.seconds_left is None else min(KNOWN_SECONDS, found.seconds_left)
        return self._keep(self._good, _Known(found.hash, found.principal, asked_at + left))

    def _keep(self, kept: dict[bytes, _Known], known: _Known) -> _Known:
        kept[known.hash] = known
        if len(kept) > self._kept_max:
            del kept[next(iter(kept))]
        return known
