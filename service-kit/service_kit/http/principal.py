"""Who asks, and what they may do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from starlette.types import Scope

PRINCIPAL = "service_kit.principal"
"""Of a request's scope: set when it was let in by a role."""


class Role(StrEnum):
    """What a route asks for, in one word. A route for `ANYBODY` asks for no key; no key has this role."""

    ANYBODY = "anybody"
    READ = "orders:read"
    WRITE = "orders:write"
    ADMIN = "admin"


KEY_ROLES: Sequence[Role] = (Role.READ, Role.WRITE, Role.ADMIN)
"""What a key may have. An admin may all."""


CUSTOMERS_MAX = 100
"""To so many a principal may be restricted: a page of the list is read for each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """`customers`: whose orders it may see and send, None for all of them.

    `id` names it among all that limits are kept for; what has none has no limits. `by_own_word`: nothing but
    the header `X-Operator` says who it is.
    """

    name: str
    id: str = ""
    roles: frozenset[Role]
    customers: frozenset[str] | None = None
    by_own_word: bool = False

    def has(self, role: Role) -> bool:
        return role in self.roles or Role.ADMIN in self.roles

    def may_see(self, customer_id: str) -> bool:
        return self.customers is None or customer_id in self.customers


class Credentials(Protocol):
    """Knows who brings what, as it comes in `Authorization: Bearer`."""

    async def principal(self, key: bytes) -> Principal | None:
        """None when it is not good. Raises Unavailable when that cannot be found out."""
        ...


EVERYBODY = Principal(name="everybody", roles=frozenset({Role.READ, Role.WRITE}))
"""Who asks when nobody is asked for a key."""


def principal_of(scope: Scope) -> Principal:
    """Who asks, in a route that has a role."""
    principal: Principal = scope[PRINCIPAL]
    return principal
