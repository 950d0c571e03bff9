"""Two PostgreSQL servers of which one follows the other, and what an operator tool does with them."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil

from chaos.postgres import APP_ROLE, Postgres

_REPLICATION = {
    "wal_level": "replica",
    "hot_standby": "on",
    "max_wal_senders": "8",
    "wal_keep_size": "256MB",
    "max_connections": "100",
    # A standby whose machine is gone is noticed after these, and its commits wait for so long at least.
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
}
_PROBE_SECONDS, _PROBES_FAILED = 0.5, 3
_SYNCHRONOUS = (
    "SELECT sync_state FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'"
)


class Member(Postgres):
    """A server that can also be made as a standby of another."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        super().__init__(folder, _REPLICATION)
        self.name = name

    async def kill(self) -> None:
        """SIGKILL to the server and each of its sessions at once, as a machine that fails."""
        sessions = psutil.Process(self.pid).children(recursive=True)
        await self.end(signal.SIGKILL)
        for session in sessions:
            with suppress(psutil.NoSuchProcess):
                session.kill()


class ReplicatedPostgres:
    """A primary whose commits wait for the standby (`synchronous_commit = on`), and their fail-over.

    `failover` and `rejoin` are what Patroni, CloudNativePG or repmgr do; here they are done by hand.
    """

    def __init__(self, folder: Path) -> None:
        self.members = [Member(folder / "postgres-one", "one"), Member(folder / "postgres-two", "two")]
        self.primary, self.standby = self.members

    async def create(self, databases: Sequence[str]) -> None:
        await self.primary.create()
        for name in databases:
            await self.primary.create_database(name)
        await self.rejoin()

    async def close(self) -> None:
        for member in self.members:
            await member.end(signal.SIGQUIT)

    def dsn(self, database: str) -> str:
        """What the services are given: both hosts, and that they want the one that takes writes."""
        where = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://{APP_ROLE}@{where}/{database}?target_session_attrs=read-write"

    async def watch_and_failover(self) -> None:
        """Return after the primary was found dead and the standby has become the primary."""
        failed = 0
        while failed < _PROBES_FAILED:
            failed = 0 if await self.primary.answers() else failed + 1
            await asyncio.sleep(_PROBE_SECONDS)
        await self.failover()

    async def failover(self) -> None:
        """The standby becomes the primary.

        First the old primary must be dead for certain: two primaries would both be written to. Then, *before*
        the promotion, the list of synchronous standbys is emptied: the new primary has the configuration that
        the old one had, and each commit would wait for a standby that does not exist. Until `rejoin` there is
        one copy only. Whoever would rather stand still than that leaves the list as it is.
        """
        await self.primary.end(signal.SIGKILL)
        self.primary, self.standby = self.standby, self.primary
        await self._wait_for(None)
        connection = await asyncpg.connect(self.primary.dsn("postgres"), timeout=10)
        try:
            if not await connection.fetchval("SELECT pg_promote(true, 60)"):
                raise RuntimeError("the standby was not promoted")
        finally:
            await connection.close()

    async def rejoin(self) -> None:
        """Make the standby anew from a backup of the primary; commits wait for it once it has caught up.

        Not `pg_rewind`: the old primary may hold commits that nobody else has, and were answered to nobody.
        """
        await self.standby.copy_of(self.primary, name=self.standby.name)
        async with asyncio.timeout(30):
            while await self._state() is None:
                await asyncio.sleep(0.1)
            await self._wait_for(self.standby.name)
            while await self._state() != "sync":
                await asyncio.sleep(0.1)

    async def _wait_for(self, standby: str | None) -> None:
        """Let commits of the primary wait for `standby`. Written to its configuration, which backups copy."""
        names = f'FIRST 1 ("{standby}")' if standby else ""
        connection = await asyncpg.connect(self.primary.dsn("postgres"), timeout=10)
        try:
            await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    async def _state(self) -> str | None:
        """Of the standby as the primary sees it: None while it does not follow."""
        connection = await asyncpg.connect(self.primary.dsn("postgres"), timeout=10)
        try:
            state: str | None = await connection.fetchval(_SYNCHRONOUS, self.standby.name)
        finally:
            await connection.close()
        return state
