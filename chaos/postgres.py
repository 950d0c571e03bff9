"""A PostgreSQL server of our own, durable as in production, that may be killed."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from chaos import programs
from order_processor.embedded_postgres.account import Account, account_for

START_SECONDS_MAX = 60.0
# The services' role is no superuser: the last connections are kept for who looks after the server.
APP_ROLE = "app"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_line_prefix": "%m [%p] %u@%d ",
}
_PLAIN = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")


class Postgres:
    """One server on `folder`, on the same port whenever it is started."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        # Beside the folder, which may be a disk that gets full.
        self.log = folder.with_suffix(".log")
        self.port = programs.free_port()
        self._settings = {**_SETTINGS, **settings, "port": str(self.port)}
        self._programs = programs.postgres_folder()
        self._account: Account | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def create(self) -> None:
        """Make the data folder and start. Raises RuntimeError with what PostgreSQL said."""
        await self._made_by("initdb", "-D", str(self.data), *_PLAIN)
        await self.start()
        async with asyncio.timeout(START_SECONDS_MAX):
            connection = await asyncpg.connect(self.dsn("postgres"))
            await connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN")
            await connection.close()

    async def copy_of(self, primary: "Postgres", *, name: str) -> None:
        """Throw away what is here, become a standby of `primary` that it knows as `name`, and start."""
        if self.data.exists():
            shutil.rmtree(self.data)
        where = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        await self._made_by(
            "pg_basebackup", "-D", str(self.data), "-d", where, "-R", "-c", "fast", "--no-sync"
        )
        await self.start()

    async def start(self) -> None:
        """Start and wait until it answers; it recovers from whatever ended it."""
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await self.answers():
                if not self.running:
                    # After a kill the old server's children may hold its memory for a moment.
                    options = [f"--{name}={value}" for name, value in self._settings.items()]
                    self._process = await self._launch("postgres", "-D", str(self.data), *options)
                await asyncio.sleep(0.1)

    async def end(self, how: signal.Signals) -> None:
        """SIGINT: orderly. SIGQUIT: at once, recovering at the next start. SIGKILL: without a word."""
        await programs.end(self._process, how, within_seconds=20)

    async def create_database(self, name: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}" OWNER {APP_ROLE}')
        finally:
            await connection.close()

    def log_count(self, *texts: str) -> int:
        """How many lines of the log hold one of `texts`."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum(any(text in line for text in texts) for line in lines)

    async def answers(self) -> bool:
        if not self.running:
            return False
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def dsn(self, database: str, *, role: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{role}@127.0.0.1:{port or self.port}/{database}"

    async def _made_by(self, program: str, *arguments: str) -> None:
        self._account = account_for(self.folder, self._programs)
        if self._account:
            os.chown(self.folder, self._account.user_id, self._account.group_id)
        made = await self._launch(program, *arguments)
        if await made.wait() != 0:
            raise RuntimeError(f"{program} failed: {self.log.read_text(errors='replace')[-2000:]}")

    async def _launch(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return await programs.launch(
            self._programs / program,
            *arguments,
            environment={**kept, "LC_ALL": "C"},
            log=self.log,
            become=self._account.become if self._account else None,
        )
