"""How connections are opened, to one of several hosts."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

# The host is away, starting up, or not the wanted one: another may be. All else it says would others say too.
_ASK_THE_NEXT = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)


class Hosts:
    """The hosts of a DSN. Each is given `timeout` for itself, and the one that served last is asked first.

    asyncpg has one timeout for all of them together: a first host whose machine is gone, so that nothing even
    refuses the connection, uses it up before the second is asked.
    """

    def __init__(self, dsn: str) -> None:
        self._dsns = _one_each(dsn)

    async def connect(self, *_: Any, **options: Any) -> asyncpg.Connection:
        """As asyncpg.connect, but for the DSN; raises what the last host said when none serves."""
        last: Exception | None = None
        for dsn in list(self._dsns):
            try:
                connection: asyncpg.Connection = await asyncpg.connect(dsn, **options)
            except _ASK_THE_NEXT as error:
                last = error
            else:
                self._dsns.remove(dsn)
                self._dsns.insert(0, dsn)
                return connection
        assert last
        raise last


def _one_each(dsn: str) -> list[str]:
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]
