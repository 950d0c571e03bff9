"""Writes the table of the last runs into docs/reliability.md: `python -m chaos.report RESULTS.jsonl`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from chaos.faults import FAULTS
from chaos.results import Result, read
from chaos.table import cells

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- runs: written by chaos/report.py -->", "<!-- runs end -->"
_HEAD = "| fault | what is done | seen of it | accepted | lost | duplicated | recovered after |"


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m chaos.report RESULTS.jsonl", file=sys.stderr)
        return 2
    PAGE.write_text(with_table(PAGE.read_text(), read(Path(sys.argv[1]))))
    return 0


def with_table(page: str, results: Sequence[Result]) -> str:
    """`page` with what stands between the two marks replaced. Raises ValueError when a mark is missing."""
    before, found, rest = page.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not found or not ends:
        raise ValueError(f"the page lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{_summary(results)}\n\n{_table(results)}\n{END}{after}"


def _summary(results: Sequence[Result]) -> str:
    last = max((result.finished_at for result in results), default="never")[:10]
    seconds = sum(result.seconds for result in results)
    versions = next((result.versions for result in results), {})
    return (
        f"{len(results)} configurations, {seconds:,.0f} s of faults, "
        f"**{sum(result.accepted for result in results):,} accepted orders: "
        f"{sum(result.lost for result in results)} lost, "
        f"{sum(result.duplicated for result in results)} duplicated**, "
        f"{sum(result.wrong for result in results)} other violations; "
        f"{sum(result.passed for result in results)} of {len(results)} passed. Last run {last}, on "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def _table(results: Sequence[Result]) -> str:
    return "\n".join([_HEAD, "|---|---|---|--:|--:|--:|--:|", *map(_row, results)])


def _row(result: Result) -> str:
    name, seen, accepted, lost, duplicated, _, recovered = cells(result)
    stories = "; ".join(FAULTS[fault].story for fault in result.faults if fault in FAULTS)
    return "| " + " | ".join([f"`{name}`", stories, seen, accepted, lost, duplicated, recovered]) + " |"


if __name__ == "__main__":
    sys.exit(main())
