"""Who may operate: the check in front of every `/admin` route."""

from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from service_kit.http.problems import FieldError, Problem

UNNAMED = "unnamed"
OPERATOR_LENGTH_MAX = 100

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True, slots=True)
class Operator:
    """Who asks, by their own word; `unnamed` only in requests that change nothing."""

    name: str


class Access:
    """Opens the admin routes to whoever has `key`, and without a key to nobody.

    With `open_on_loopback` and no key, to whoever is on this machine: the peer's address and the name in
    `Host` are of the loopback interface, and a browser does not ask on behalf of another page. The name is
    looked at since any page may let its own name lead to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, key: str | None, *, open_on_loopback: bool = False) -> None:
        self._key = key.encode() if key else None
        self._open_on_loopback = open_on_loopback

    def admin(self, request: Request) -> Operator:
        """The operator who asks. Raises Problem: 403 closed, 401 without the key, 400 without a name.

        Requests that may change something name the operator in `X-Operator`: what they do is kept with it.
        """
        if self._key is not None:
            _require_key(request, self._key)
        elif not self._open_on_loopback:
            raise _closed("set APP__ADMIN_KEY to open it to those who have the key")
        elif not (is_local(request) and _is_of_our_own_page(request)):
            raise _closed("it is open to this machine alone; set APP__ADMIN_KEY to open it to others")
        return _operator(request)


def _require_key(request: Request, key: bytes) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(given.strip().encode(), key):
        detail = "The header Authorization must be 'Bearer' and the key of APP__ADMIN_KEY."
        raise Problem(401, "Unauthorized", detail, headers={"www-authenticate": "Bearer"})


def _closed(what_to_do: str) -> Problem:
    return Problem(403, "AdminClosed", f"The admin API is closed: {what_to_do}.")


def is_local(request: Request) -> bool:
    """Whether no other machine can be behind this request, whatever its sender makes of names."""
    if request.client is None or not _is_loopback(request.client.host):
        return False
    hosts = request.headers.getlist("host")
    return (
        len(hosts) == 1
        and _is_loopback(_name(hosts[0]))
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


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _operator(request: Request) -> Operator:
    given = request.headers.get("x-operator")
    if given is None and request.method in _SAFE_METHODS:
        return Operator(UNNAMED)
    # Headers are read as Latin-1; clients that send anything beyond ASCII send UTF-8.
    name = (given or "").encode("latin-1").decode("utf-8", "backslashreplace").strip()
    if not 1 <= len(name) <= OPERATOR_LENGTH_MAX or not name.isprintable():
        words = f"must be a name of 1 to {OPERATOR_LENGTH_MAX} printable characters"
        error = FieldError(loc=("header", "X-Operator"), msg=words)
        raise Problem(400, "ValidationError", "The header X-Operator must say who asks.", errors=[error])
    return Operator(name)
