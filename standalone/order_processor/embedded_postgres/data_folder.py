"""The folder on disk: whose it is, and what is in it."""

import fcntl
import os
import shutil
from pathlib import Path

from order_processor.embedded_postgres import programs
from order_processor.embedded_postgres.account import Account
from service_kit.errors import StartupError

_INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--no-instructions",
)


class DataFolderInUse(StartupError):
    """Another process runs on this data folder."""


class DataFolder:
    """`path` holds the data, the log of the current run, and the lock of the process that owns it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "postgres"
        self.log = path / "postgres.log"
        self._lock: int | None = None

    def lock(self) -> None:
        """Take the folder, made if it is not there, for this process alone.

        The kernel gives it free when the process ends, however it ends. Does nothing when it is ours
        already. Raises StartupError, and DataFolderInUse as one of it.
        """
        if self._lock is not None:
            return
        lock = self._open_lock_file()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            raise DataFolderInUse(
                f"{self.path} is in use by process {owner or 'unknown'}: stop it first"
            ) from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def holds_data(self) -> bool:
        """Whether there are data already. Raises StartupError when they are not ours to use."""
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if self.data.exists() and any(self.data.iterdir()):
                raise StartupError(
                    f"{self.data} holds something else than a database: choose another data folder"
                ) from None
            return False
        except OSError as error:
            raise StartupError(f"cannot read {self.data}: {error.strerror}") from error
        if version != programs.MAJOR_VERSION:
            raise StartupError(
                f"{self.path} holds data of PostgreSQL {version}, and this is {programs.MAJOR_VERSION}: "
                "choose another data folder, or move the data with pg_dump"
            )
        return True

    def create_data(self, account: Account | None) -> None:
        """Make an empty database server's data, complete or not at all. Raises StartupError."""
        unfinished = self.path / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(mode=0o700)
            if account:
                os.chown(unfinished, account.user_id, account.group_id)
            programs.run("initdb", "-D", str(unfinished), *_INITDB_OPTIONS, account=account)
            unfinished.rename(self.data)
        except OSError as error:
            raise StartupError(f"cannot write to {error.filename or self.path}: {error.strerror}") from error
        except programs.ProgramFailed as error:
            raise StartupError(f"no database could be made in {self.path}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _open_lock_file(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (FileExistsError, NotADirectoryError):
            raise StartupError(f"{self.path} is not a folder: choose another data folder") from None
        except OSError as error:
            raise StartupError(f"cannot write to {self.path}: {error.strerror}") from error
