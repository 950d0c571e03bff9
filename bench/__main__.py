"""The command `make bench`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import results
from bench.report import write_report
from bench.runner import run_all
from bench.scenarios import SCENARIOS
from bench.scenarios.scenario import QUICK, Lengths
from chaos import programs

_FOLDER = Path(__file__).parent


def main() -> int:
    """0: measured; 1: some scenario failed; 2: wrong usage."""
    arguments = _arguments()
    if arguments.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:10} {scenario.story}")
        return 0
    file: Path = arguments.out / "results.json"
    if not arguments.report:
        standard = [name for name, scenario in SCENARIOS.items() if scenario.by_default]
        names = arguments.only.split(",") if arguments.only else standard
        if unknown := [name for name in names if name not in SCENARIOS]:
            print(f"there is no scenario {unknown[0]!r}; --list shows them", file=sys.stderr)
            return 2
        try:
            _measure(names, file, quick=arguments.quick, repeats=arguments.repeats)
        except asyncio.CancelledError:
            return 130
    measured = results.read(file)
    report = write_report(measured, arguments.out)
    Console().print(f"{report} is written", markup=False, highlight=False)
    return 1 if measured.failed else 0


def _measure(names: list[str], file: Path, *, quick: bool, repeats: int | None) -> None:
    lengths = QUICK if quick else Lengths()
    if repeats:
        lengths = lengths.repeated(repeats)
    programs.adopt_orphans()
    file.parent.mkdir(parents=True, exist_ok=True)
    scenarios = [SCENARIOS[name] for name in SCENARIOS if name in names]

    async def measure() -> results.Results:
        task = asyncio.current_task()
        assert task
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await run_all(scenarios, lengths, Console())

    results.write(file, asyncio.run(measure()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures, and writes a report.")
    parser.add_argument("--quick", action="store_true", help="short runs: under 3 minutes, and rough figures")
    parser.add_argument("--only", default="", help="these scenarios: a,b,c")
    parser.add_argument("--repeats", type=int, help="how often what is repeated runs (3; quick: 1)")
    parser.add_argument("--out", type=Path, default=_FOLDER, help="folder of report, plots and results.json")
    parser.add_argument("--report", action="store_true", help="write the report of results.json again")
    parser.add_argument("--list", action="store_true", help="show the scenarios and leave")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
