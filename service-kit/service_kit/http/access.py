"""Who may ask for what: the one place where a request becomes a principal."""

from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

import structlog
from starlette.requests import Request
from starlette.types import Scope

from service_kit.errors import Unavailable
from service_kit.http.principal import EVERYBODY, PRINCIPAL, Credentials, Principal, Role, principal_of
from service_kit.http.problems import FieldError, Problem
from service_kit.http.rate_limits import UNLIMITED, RateLimits

log = structlog.stdlib.get_logger()

UNNAMED = "unnamed"
OPERATOR_LENGTH_MAX = 100

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_OPERATOR = Principal(name=UNNAMED, roles=frozenset({Role.ADMIN}), by_own_word=True)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks; `unnamed` only in requests that change nothing."""

    name: str


class Access:
    """Lets in whoever has a key of `keys`, or `admin_key`, which may all. Without any of both, nobody.

    With `keys` None nobody is asked for a key but by the admin routes. With `open_on_loopback` and without
    `admin_key`, these are open to whoever is on this machine: the peer's address and the name in `Host` are
    of the loopback interface, and a browser does not ask on behalf of another page. The name is looked at
    since any page may let its own name lead to 127.0.0.1 (DNS rebinding).
    """

    def __init__(
        self,
        admin_key: str | None,
        *,
        keys: Credentials | None = None,
        open_on_loopback: bool = False,
        limits: RateLimits = UNLIMITED,
    ) -> None:
        self._admin_key = admin_key.encode() if admin_key else None
        self._keys = keys
        self._open_on_loopback = open_on_loopback
        self._limits = limits

    async def admit(self, scope: Scope, role: Role) -> None:
        """Let in a request to a route that asks for `role`; who asks is in its scope from then on.

        Raises Problem: 401 without a good key, 403 when it lacks the role, or the admin routes are closed;
        429 when too much was asked for; 503 when the keys cannot be looked up.
        """
        self._limits.take_of_address(scope)
        principal = EVERYBODY if self._keys is None and role is not Role.ADMIN else await self._asking(scope)
        if not principal.has(role):
            raise Problem(403, "Forbidden", f"This key may not do that: it needs the role {role}.")
        self._limits.take_of_key(scope, principal)
        scope[PRINCIPAL] = principal

    async def still_admits(self, scope: Scope) -> bool:
        """Whether who was let in would be now, with the same rights: a stream may outlive its key.

        True as long as that cannot be found out.
        """
        principal: Principal = scope[PRINCIPAL]
        try:
            return principal is EVERYBODY or await self._asking(scope) == principal
        except Problem as problem:
            return problem.status == 503

    def charge(self, scope: Scope, tokens: int) -> None:
        """Count what a request that was let in costs beyond being one request."""
        self._limits.charge(scope, tokens)

    async def _asking(self, scope: Scope) -> Principal:
        key = _given_key(scope)
        if self._admin_key is not None and key is not None and compare_digest(key, self._admin_key):
            return _OPERATOR
        if self._keys is not None and key is not None:
            return await _principal(self._keys, key)
        if self._admin_key is None and self._open_on_loopback:
            return _on_this_machine(Request(scope))
        if self._admin_key is None and self._keys is None:
            raise _closed("set APP__ADMIN_KEY to open it to those who have the key")
        raise _unauthorized("of APP__ADMIN_KEY" if self._keys is None else "that is valid")


async def _principal(keys: Credentials, key: bytes) -> Principal:
    try:
        principal = await keys.principal(key)
    except Unavailable as outage:
        log.warning("key_not_looked_up", reason=str(outage))
        detail = "It cannot be found out now whose key this is. Try again."
        raise Problem(503, "ServiceUnavailable", detail, retry_after_seconds=2) from outage
    if principal is None:
        raise _unauthorized("that is valid")
    return principal


def _given_key(scope: Scope) -> bytes | None:
    """From `Authorization: Bearer` (RFC 6750), the header for all that is secret on its way.

    Two of them are none: others on the way may have looked at the other one.
    """
    found: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if found is not None:
                return None
            found = value
    if found is None or found[:7].lower() != b"bearer ":
        return None
    return found[7:].strip()


def _unauthorized(which: str) -> Problem:
    detail = f"The header Authorization must be 'Bearer' and a key {which}."
    return Problem(401, "Unauthorized", detail, headers={"www-authenticate": "Bearer"})


def _on_this_machine(request: Request) -> Principal:
    if not (is_local(request) and _is_of_our_own_page(request)):
        raise _closed("it is open to this machine alone; set APP__ADMIN_KEY to open it to others")
    return _OPERATOR


def _closed(what_to_do: str) -> Problem:
    return Problem(403, "AdminClosed", f"The admin API is closed: {what_to_do}.")


def is_local(request: Request) -> bool:
    """Whether no other machine can be behind this request, whatever its sender makes of names."""
    if request.client is None or not is_loopback(request.client.host):
        return False
    hosts = request.headers.getlist("host")
    return (
        len(hosts) == 1
        and is_loopback(_name(hosts[0]))
        and not any(name in request.headers for name in _FORWARDED)
    )


def _is_of_our_own_page(request: Request) -> bool:
    """Whether a request that may change something comes from our own page, or from no page at all."""
    if request.method in _SAFE_METHODS:
        return True
    site = request.headers.get("sec-fetch-site", "none")
    own = f"{request.scope['scheme']}://{request.headers['host']}"
    return site in ("same-origin", "none") and request.headers.get("origin", own).lower() == own.lower()


def _name(host: str) -> str:
    """The name or address in a `Host`, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def operator_of(request: Request) -> Operator:
    """Who asks, of those that an admin route let in. Raises Problem 400 without a name.

    Requests that may change something name the operator in `X-Operator`: what they do is kept with it. A key
    has a name of its own, which is kept beside.
    """
    principal = principal_of(request.scope)
    given = request.headers.get("x-operator")
    if given is None and not principal.by_own_word:
        return Operator(principal.name)
    if given is None and request.method in _SAFE_METHODS:
        return Operator(UNNAMED)
    # Headers are read as Latin-1; clients that send anything beyond ASCII send UTF-8.
    name = (given or "").encode("latin-1").decode("utf-8", "backslashreplace").strip()
    if not 1 <= len(name) <= OPERATOR_LENGTH_MAX or not name.isprintable():
        words = f"must be a name of 1 to {OPERATOR_LENGTH_MAX} printable characters"
        error = FieldError(loc=("header", "X-Operator"), msg=words)
        raise Problem(400, "ValidationError", "The header X-Operator must say who asks.", errors=[error])
    return Operator(name if principal.by_own_word else f"{name} (key {principal.name})")
