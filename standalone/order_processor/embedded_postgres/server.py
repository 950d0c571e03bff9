"""Starting and stopping: one server on one data folder, owned by one process."""

import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from order_processor.embedded_postgres import leftovers, programs, socket_folder
from order_processor.embedded_postgres.account import Account, account_for
from order_processor.embedded_postgres.data_folder import DataFolder
from order_processor.embedded_postgres.watcher import Watcher
from service_kit.errors import StartupError

START_SECONDS_MAX = 600.0
"""Crash recovery replays what was written since the last checkpoint; it may take minutes on a slow disk."""
STOP_SECONDS_MAX = 60.0
_PORT = 5432
_POLL_SECONDS = 0.02

# Durable, but small: beside it run two services on what may be a laptop.
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "log_checkpoints": "off",
    "listen_addresses": "",
}


class EmbeddedPostgres:
    """PostgreSQL on the data in `data_dir`, reached through a socket that only this user can open.

    Every commit is on disk before it is acknowledged. The folder belongs to one process at a time, for as
    long as that process lives; should it be killed, the server stops too.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = DataFolder(data_dir.absolute())
        self._socket_folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: Watcher | None = None

    def start(self) -> None:
        """Start the server, on new data if there are none yet; do nothing while it runs.

        Recovers from whatever ended the last run, also when that run's server still lives; call it again
        when the server died while this process went on: the DSNs stay the same. Blocks for as long as
        recovery takes, up to ten minutes. Raises StartupError, and DataFolderInUse as one of it; what was
        started before can be started again then.
        """
        if self.running:
            return
        release = self._end_server if self._socket_folder else self.stop
        self._folder.lock()
        try:
            self._start()
        except BaseException:
            release()
            raise

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def dsn(self, database: str) -> str:
        """The DSN of `database`, as superuser; the same until `stop`. The server must have been started."""
        if self._socket_folder is None:
            raise RuntimeError("the server was not started")
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self._socket_folder))}&port={_PORT}"

    def ensure_database(self, database: str) -> str:
        """Create `database` unless it is there, and return its DSN."""
        connection = ("-w", "-h", str(self._socket_folder), "-p", str(_PORT), "-U", "postgres")
        try:
            names = programs.run(
                "psql", "-At", "-c", "SELECT datname FROM pg_database", *connection, "postgres"
            )
            if database not in names.splitlines():
                programs.run("createdb", *connection, database)
        except programs.ProgramFailed as error:
            raise StartupError(f"the database {database} could not be created: {error}") from error
        return self.dsn(database)

    def stop(self) -> None:
        """Stop the server, its data complete on disk, and free the folder. Safe before start and twice."""
        self._end_server()
        if self._socket_folder is not None:
            socket_folder.remove(self._socket_folder)
            self._socket_folder = None
        self._folder.unlock()

    def _end_server(self) -> None:
        if self._process is not None:
            leftovers.stop(self._process.pid, self._process.poll, within_seconds=STOP_SECONDS_MAX)
            self._process = None
        if self._watcher is not None:
            self._watcher.dismiss()
            self._watcher = None

    def _start(self) -> None:
        self._end_server()
        account = account_for(self._folder.path, programs.folder())
        if self._folder.holds_data():
            self._clear_leftovers()
        else:
            self._folder.create_data(account)
        self._socket_folder = self._socket_folder or socket_folder.create(account, port=_PORT)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._reached_readiness(account, self._socket_folder, deadline):
            # The children of a server that was killed may live a moment longer and hold its memory.
            time.sleep(_POLL_SECONDS * 10)

    def _clear_leftovers(self) -> None:
        left = leftovers.socket_folder_of(self._folder.data)
        leftovers.stop_server_on(self._folder.data, within_seconds=STOP_SECONDS_MAX)
        if left != self._socket_folder:
            socket_folder.remove(left)

    def _reached_readiness(self, account: Account | None, sockets: Path, deadline: float) -> bool:
        """Start the server once and wait; False when it is worth another try."""
        self._process = self._launch(account, sockets)
        self._watcher = Watcher(self._process.pid, sockets)
        while time.monotonic() < deadline:
            if leftovers.ready_pid(self._folder.data) == self._process.pid:
                return True
            if self._process.poll() is not None:
                self._end_server()
                return self._judge_early_end()
            time.sleep(_POLL_SECONDS)
        raise StartupError(
            f"PostgreSQL was not ready within {START_SECONDS_MAX:g} s; its log is {self._folder.log}"
        )

    def _judge_early_end(self) -> bool:
        log = self._folder.log.read_text(errors="replace")
        if "is still in use" in log:
            return False
        raise StartupError(
            f"PostgreSQL does not start: {programs.telling_line(log)} (log: {self._folder.log})"
        )

    def _launch(self, account: Account | None, sockets: Path) -> "subprocess.Popen[bytes]":
        settings = {**_SETTINGS, "port": str(_PORT), "unix_socket_directories": str(sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._folder.log.open("wb") as log:
            return programs.launch(
                "postgres", "-D", str(self._folder.data), *options, log=log, account=account
            )
