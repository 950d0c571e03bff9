"""What a run showed, as a line of JSON and as a row of a table."""

from pathlib import Path

import msgspec


class Result(msgspec.Struct, kw_only=True):
    """`evidence` counts what was seen of the faults. `violations` are told in full, up to a hundred."""

    faults: list[str]
    seed: int
    seconds: float
    evidence: dict[str, int]
    bit: bool
    accepted: int
    lost: int
    duplicated: int
    wrong: int
    recovered_after_seconds: float | None
    violations: list[str]
    finished_at: str
    versions: dict[str, str]
    took_seconds: float

    @property
    def name(self) -> str:
        return "+".join(self.faults)

    @property
    def passed(self) -> bool:
        return self.bit and not self.violations

    @property
    def command(self) -> str:
        """What runs this case again."""
        return f"make chaos FAULTS={self.name} SEED={self.seed} SECONDS={self.seconds:g}"


def append(path: Path, result: Result) -> None:
    with path.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")


def read(path: Path) -> list[Result]:
    return [msgspec.json.decode(line, type=Result) for line in path.read_bytes().splitlines() if line.strip()]
