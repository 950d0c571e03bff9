"""A disk of a few megabytes that can be filled up."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK = b"\0" * 1_048_576


class Disk:
    """Mounted on `folder` when `megabytes` is given, which takes root; else the folder is as it is."""

    def __init__(self, folder: Path, megabytes: int | None) -> None:
        self._folder = folder
        self._megabytes = megabytes
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        if self._megabytes:
            options = f"size={self._megabytes}m,mode=755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._folder], check=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._megabytes:
            subprocess.run(["umount", "--lazy", self._folder], check=True)

    def fill(self) -> None:
        """Leave not a byte free. Only on a disk of our own."""
        assert self._megabytes, "this would fill the disk of the machine"
        with self._ballast.open("ab", buffering=0) as ballast:
            size = len(_BLOCK)
            while size:
                try:
                    ballast.write(_BLOCK[:size])
                except OSError:
                    size //= 2

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    @staticmethod
    def possible() -> bool:
        return os.geteuid() == 0
