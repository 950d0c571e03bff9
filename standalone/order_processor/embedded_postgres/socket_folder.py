"""Where the server's socket is: a short, private folder. The data's path may be too long for one."""

import os
import shutil
import tempfile
from pathlib import Path

from order_processor.embedded_postgres.account import Account
from service_kit.errors import StartupError

_PREFIX = "order-processor-"
_SOCKET_PATH_BYTES_MAX = 107


def create(account: Account | None, *, port: int) -> Path:
    """A new folder that only the server's user can enter. Raises StartupError."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp follows
        if len(os.fsencode(f"{parent}/{_PREFIX}12345678/.s.PGSQL.{port}")) <= _SOCKET_PATH_BYTES_MAX:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            if account:
                os.chown(folder, account.user_id, account.group_id)
            return folder
    raise StartupError(
        "no temporary folder has a path short enough for a socket: set TMPDIR to a shorter one"
    )


def remove(folder: Path | None) -> None:
    """Remove what `create` made, and nothing else: the path may come out of a file."""
    if folder and folder.name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
