"""Signed tokens (JWT, RFC 7519) of one issuer: who brings a good one is known without a key of ours."""

from collections.abc import Callable, Collection
from hashlib import sha256
from time import time
from typing import Annotated, NamedTuple

import msgspec
import structlog
from joserfc import jws, jwt
from joserfc.errors import InvalidClaimError, JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from msgspec import UNSET, Meta, UnsetType

from service_kit.api_keys import PREFIX
from service_kit.http.inputs import CustomerId
from service_kit.http.principal import CUSTOMERS_MAX, KEY_ROLES, Credentials, Principal, Role
from service_kit.issuer_keys import IssuerKeys

KNOWN_SECONDS = 300.0
"""So long a good token is not looked at again, unless it expires before."""
LEEWAY_SECONDS = 30
TOKEN_BYTES_MAX = 8_192
_KEPT_MAX = 10_000

log = structlog.stdlib.get_logger()


class _Header(msgspec.Struct):
    kid: str


class _Claims(msgspec.Struct):
    sub: Annotated[str, Meta(pattern=r"^[ -~]{1,255}$")]
    exp: float
    scope: str = ""
    roles: list[str] = []
    customers: Annotated[frozenset[CustomerId], Meta(min_length=1, max_length=CUSTOMERS_MAX)] | UnsetType = (
        UNSET
    )


class _Known(NamedTuple):
    principal: Principal
    until: float


class Tokens:
    """Implements Credentials: what is no token is for `others` to know.

    A token is good when a key of `keys` for signatures, named by `kid`, has signed it by one of `algorithms`,
    `iss` and `aud` are or hold `issuer` and `audience`, it has not expired, and says who it is about (`sub`).
    Its roles are those in `scope`; if there is none of ours, those in `roles`. `customers` restricts it.
    """

    def __init__(
        self,
        keys: IssuerKeys,
        others: Credentials,
        *,
        issuer: str,
        audience: str,
        algorithms: Collection[str],
        clock: Callable[[], float] = time,
        kept_max: int = _KEPT_MAX,
    ) -> None:
        self._keys = keys
        self._others = others
        self._clock = clock
        self._kept_max = kept_max
        # Issuers may put more into a header than we know of; what is critical (`crit`) is looked at.
        self._signatures = JWSRegistry(algorithms=algorithms, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )
        self._known: dict[bytes, _Known] = {}

    async def principal(self, key: bytes) -> Principal | None:
        """Who brings this, None when it is not good. Raises Unavailable when that cannot be found out."""
        if key.startswith(PREFIX.encode()) or key.count(b".") != 2:
            return await self._others.principal(key)
        digest = sha256(key).digest()
        known = self._known.get(digest)
        if known is None or known.until <= self._clock():
            try:
                known = await self._verified(key)
            except (
                JoseError,
                msgspec.ValidationError,
                ValueError,
                TypeError,
                ArithmeticError,
                RecursionError,
            ) as e:
                log.debug("token_refused", reason=f"{type(e).__name__}: {e}"[:200])
                return None
            self._keep(digest, known)
        return known.principal

    async def _verified(self, token: bytes) -> _Known:
        if len(token) > TOKEN_BYTES_MAX:
            raise ValueError(f"it has more than {TOKEN_BYTES_MAX} bytes")
        key = await self._keys.find(_key_id(token, self._signatures))
        if key is None:
            raise ValueError("the issuer has no key of its kid")
        found = jwt.decode(token, key, registry=self._signatures).claims
        self._claims.validate(found)
        claims = msgspec.convert(found, _Claims)
        return _Known(_principal(claims), min(claims.exp, self._clock() + KNOWN_SECONDS))

    def _keep(self, digest: bytes, known: _Known) -> None:
        self._known.pop(digest, None)
        self._known[digest] = known
        if len(self._known) > self._kept_max:
            del self._known[next(iter(self._known))]


def _key_id(token: bytes, signatures: JWSRegistry) -> str:
    header: object = jws.extract_compact(token, registry=signatures).protected
    return msgspec.convert(header, _Header).kid


def _principal(claims: _Claims) -> Principal:
    customers = None if claims.customers is UNSET else claims.customers
    roles = _ours(claims.scope.split()) or _ours(claims.roles)
    if customers is not None and Role.ADMIN in roles:
        raise InvalidClaimError("customers", "an admin cannot be restricted to customers")
    return Principal(name=f"token {claims.sub}", id=f"token {claims.sub}", roles=roles, customers=customers)


def _ours(words: Collection[str]) -> frozenset[Role]:
    return frozenset(role for role in KEY_ROLES if role in words)
