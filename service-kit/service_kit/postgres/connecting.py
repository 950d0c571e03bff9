"""How connections are opened, to one of several hosts, and what is never done to one that commits."""

import asyncio
from typing import Any
from urllib.parse import urlunsplit

import asyncpg

from service_kit.several_hosts import split_url

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


class CommitsUncancelled(asyncpg.Connection):
    """A connection that is dropped, instead of its statement cancelled, when the statement commits.

    A commit that waits for a synchronous standby and is cancelled becomes visible without being replicated:
    whoever asks again is told that it is stored, and after a fail-over it is not. A dropped session goes on
    waiting at the server. Statements inside of a transaction are cancelled as usual: that rolls them back.
    """

    _is_committing = False

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        self._is_committing = query.startswith("COMMIT")
        try:
            return await super().execute(query, *args, **options)
        finally:
            self._is_committing = False

    def _cancel_current_command(self, *waiters: Any) -> None:
        """What asyncpg calls after a timeout, and when the task that waits is cancelled."""
        if self._is_committing or not self.is_in_transaction():
            # Not at once: asyncpg is in the middle of its own bookkeeping. And not by `terminate`: the pool
            # must find the connection closed, and not given back already.
            asyncio.get_running_loop().call_soon(self._protocol.abort)  # type: ignore[attr-defined]
        else:
            super()._cancel_current_command(*waiters)  # type: ignore[misc]


def _one_each(dsn: str) -> list[str]:
    parts = split_url(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]
