"""The public keys of who issues tokens (a JWK set, RFC 7517): fetched, kept, and renewed at times."""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Annotated, Any

import httpx
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key
from msgspec import Meta

from service_kit.errors import Unavailable

KNOWN_SECONDS = 300.0
"""So long the keys are good without another question, those too that the issuer withdraws meanwhile."""
RETRY_SECONDS = 10.0
"""The issuer is asked no more often than this, whatever the tokens name."""
FETCH_SECONDS_MAX = 3.0
ANSWER_BYTES_MAX = 262_144

log = structlog.stdlib.get_logger()


class _JwkSet(msgspec.Struct):
    keys: Annotated[list[dict[str, Any]], Meta(max_length=100)]


class IssuerUnavailable(Unavailable):
    """The issuer of tokens does not tell its keys."""


class IssuerKeys:
    """Those at `url`: for signatures, and with an id each. While the issuer is away, those it had last."""

    def __init__(self, url: str, *, clock: Callable[[], float] = monotonic) -> None:
        self._url = url
        self._clock = clock
        # Loading certificates takes 20 ms, and holds up all else.
        self._tls = httpx.create_ssl_context() if url.startswith("https:") else False
        self._keys: Mapping[str, Key] = {}
        self._asked_at = self._answered_at = -inf
        self._asking: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> Key | None:
        """None when the issuer has no such key. Raises IssuerUnavailable when that cannot be found out."""
        if key_id not in self._keys or self._clock() - self._answered_at >= KNOWN_SECONDS:
            await self._refresh()
        key = self._keys.get(key_id)
        if key is None and self._answered_at < self._asked_at:
            raise IssuerUnavailable(f"{self._url} does not tell the keys of tokens")
        return key

    async def _refresh(self) -> None:
        """One question for all who wait for its answer; who goes away takes it from nobody."""
        if self._asking is None:
            if self._clock() - self._asked_at < RETRY_SECONDS:
                return
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._fetch(self._asked_at))
        await asyncio.shield(self._asking)

    async def _fetch(self, asked_at: float) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                answer = await self._get()
            keys = _usable(msgspec.json.decode(answer, type=_JwkSet))
        except (httpx.HTTPError, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("issuer_keys_not_fetched", url=self._url, reason=f"{type(error).__name__}: {error}")
        else:
            self._keys, self._answered_at = keys, asked_at
        finally:
            self._asking = None

    async def _get(self) -> bytes:
        """No redirects: the keys are those of this address alone."""
        headers = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(verify=self._tls, timeout=FETCH_SECONDS_MAX, headers=headers) as client,
            client.stream("GET", self._url) as answer,
        ):
            answer.raise_for_status()
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise httpx.HTTPError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
            return bytes(body)


def _usable(found: _JwkSet) -> Mapping[str, Key]:
    """By their ids. Keys of other kinds and for other uses are passed over (RFC 7517, section 5)."""
    keys: dict[str, Key] = {}
    for parameters in found.keys:
        try:
            key = JWKRegistry.import_key(parameters)
            key.check_use("sig")
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.debug("issuer_key_passed_over", reason=f"{type(error).__name__}: {error}"[:200])
        else:
            if key.kid is not None:
                keys[key.kid] = key
    return keys
