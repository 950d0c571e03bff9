"""A small process that stops the server when its owner is killed and can no longer do so."""

import subprocess
from pathlib import Path

# Its input ends when the owner is gone, however it went: only the owner holds the other end.
_STOP_WHEN_INPUT_ENDS = """
read -r _
kill -INT "$1"
polls=0
while kill -0 "$1" 2>/dev/null && [ "$polls" -lt 600 ]; do
    sleep 0.1
    polls=$((polls + 1))
done
rm -rf -- "$2"
"""


class Watcher:
    """Stops the server `pid`, and removes its socket's folder, when this process ends without doing it."""

    def __init__(self, pid: int, socket_folder: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _STOP_WHEN_INPUT_ENDS, "sh", str(pid), str(socket_folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the watch; nothing is stopped."""
        with self._process as process:
            process.kill()
