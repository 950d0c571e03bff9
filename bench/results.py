"""The figures of a run, kept as JSON so that the report can be written again without measuring."""

from pathlib import Path

import msgspec

from bench.scenarios.scenario import Figures


class Results(msgspec.Struct, kw_only=True):
    """`runs`: by scenario, the figures of each of its runs."""

    machine: dict[str, str]
    versions: dict[str, str]
    begun_at: str
    quick: bool
    private_servers: bool
    took_seconds: float = 0.0
    runs: dict[str, list[Figures]] = msgspec.field(default_factory=dict)
    failed: dict[str, str] = msgspec.field(default_factory=dict)


def read(file: Path) -> Results:
    return msgspec.json.decode(file.read_bytes(), type=Results)


def write(file: Path, results: Results) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
