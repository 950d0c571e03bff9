"""Whose name PostgreSQL runs in: it refuses to run as root."""

import ctypes
import os
import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service_kit.errors import StartupError

_PR_SET_SECUREBITS, _NO_SETUID_FIXUP = 28, 1 << 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Another user than root, whom PostgreSQL runs as.

    `passes_closed_folders`: the data or the programs lie below a folder that is closed to others, such as
    /root. Rather than open it, PostgreSQL is left root's right to pass.
    """

    user_id: int
    group_id: int
    passes_closed_folders: bool

    def become(self) -> None:
        """Turn this process, a child about to run a program, into one of this user. Raises OSError."""
        if self.passes_closed_folders:
            # Rights survive the change of user, and `access`, which initdb uses, respects them.
            _libc_call("prctl", _PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0)
        os.setgroups([])
        os.setgid(self.group_id)
        os.setuid(self.user_id)
        if self.passes_closed_folders:
            _keep_right_to_pass()


def account_for(data_dir: Path, programs: Path) -> Account | None:
    """Whom to run PostgreSQL as; None, as ourselves, unless we are root. Raises StartupError."""
    if os.geteuid() != 0:
        return None
    closed = _first_closed([data_dir, *data_dir.parents, programs, *programs.parents])
    if closed and not sys.platform.startswith("linux"):
        raise StartupError(
            f"PostgreSQL does not run as root and {closed} is closed to others: choose another folder"
        )
    owner = _owner_of_data(data_dir)
    return Account(user_id=owner.pw_uid, group_id=owner.pw_gid, passes_closed_folders=closed is not None)


def _owner_of_data(data_dir: Path) -> pwd.struct_passwd:
    try:
        user_id = (data_dir / "postgres").stat().st_uid
        return pwd.getpwuid(user_id) if user_id != 0 else pwd.getpwnam("nobody")
    except FileNotFoundError:
        return pwd.getpwnam("nobody")


def _first_closed(folders: Iterable[Path]) -> Path | None:
    return next((folder for folder in folders if not folder.stat().st_mode & 0o001), None)


def _keep_right_to_pass() -> None:
    # Of root's rights this is the only one kept, and the only one that containers usually grant for this.
    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    bit = 1 << _CAP_DAC_OVERRIDE
    sets = (ctypes.c_uint32 * 6)(
        bit, bit, bit, 0, 0, 0
    )  # effective, permitted, inheritable; then the upper halves
    _libc_call("capset", ctypes.byref(Header(_CAPABILITY_VERSION, 0)), sets)
    _libc_call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


_libc = ctypes.CDLL(None, use_errno=True)


def _libc_call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")
