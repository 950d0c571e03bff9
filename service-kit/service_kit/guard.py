"""The keys of one service, put together: who is let in, and whether anybody could be."""

import structlog

from service_kit.errors import StartupError
from service_kit.http.access import Access, is_loopback
from service_kit.http.principal import Credentials
from service_kit.http.protocol import HttpLimits
from service_kit.http.rate_limits import RateLimits
from service_kit.issuer_keys import IssuerKeys
from service_kit.key_ring import KeyRing
from service_kit.postgres.api_keys import ApiKeys
from service_kit.postgres.database import Database
from service_kit.settings import Settings
from service_kit.tokens import Tokens

log = structlog.stdlib.get_logger()

_WHAT_TO_DO = (
    "make one with '{service} keys create', or set APP__ADMIN_KEY, or APP__AUTH=off if everybody may "
    "send and read orders"
)


def http_limits(settings: Settings) -> HttpLimits:
    return HttpLimits(
        connections_max=settings.connections_max,
        connections_per_address_max=settings.connections_per_address_max,
    )


class Guard:
    """`keys` are those in the database, `ring` what this process remembers of them."""

    def __init__(self, settings: Settings, database: Database, *, open_on_loopback: bool = False) -> None:
        self._settings = settings
        self.keys = ApiKeys(database)
        self.ring = KeyRing(self.keys.find)
        asked_for = _with_tokens(settings, self.ring) if settings.auth == "keys" else None
        limits = RateLimits.of(per_key=settings.rate_per_key, per_address=settings.rate_per_address)
        self.access = Access(
            settings.admin_key, keys=asked_for, open_on_loopback=open_on_loopback, limits=limits
        )

    async def require_keys(self) -> None:
        """Raises StartupError when others than this machine are to be served, and nobody has a key.

        Raises Unavailable. On the loopback interface it is a warning: the first key may still be made.
        """
        settings = self._settings
        if settings.auth == "off":
            if not is_loopback(settings.host):
                log.warning("auth_off", detail="APP__AUTH=off: everybody may send and read orders")
            return
        if settings.admin_key or settings.jwt_jwks_url or await self.keys.any_usable():
            return
        what_to_do = _WHAT_TO_DO.format(service=settings.service_name)
        if not is_loopback(settings.host):
            text = f"APP__HOST={settings.host} lets others in, and there is no API key: {what_to_do}"
            raise StartupError(text, exit_code=2)
        log.warning("no_keys", detail=f"there is no API key, so nobody is let in: {what_to_do}")


def _with_tokens(settings: Settings, ring: KeyRing) -> Credentials:
    if not (settings.jwt_issuer and settings.jwt_audience and settings.jwt_jwks_url):
        return ring
    return Tokens(
        IssuerKeys(settings.jwt_jwks_url),
        ring,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms.split(","),
    )
