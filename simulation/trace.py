"""What happened, line by line: the same for the same seed, byte for byte."""

from hashlib import sha256


class Trace:
    """Counts events always; keeps them as lines only when asked, since words cost more than the run."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.events = 0
        self.lines: list[str] = []

    def add(self, now: float, who: str, what: str) -> None:
        """Only called when `keep`: the caller asks first, so as not to format in vain."""
        self.lines.append(f"{now:11.4f}  {who:<12} {what}")

    def digest(self) -> str:
        return sha256("\n".join(self.lines).encode()).hexdigest()
