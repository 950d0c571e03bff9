"""The command `make chaos`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom

from rich.console import Console

from chaos import programs
from chaos.case import Case, failed, run
from chaos.faults import FAULTS, PAIRS
from chaos.results import Result, append
from chaos.table import print_table

SECONDS, RUNS = 30.0, 5


def main() -> int:
    """0: all held and every fault was seen; 1: not; 2: wrong usage."""
    arguments = _arguments()
    if arguments.list:
        for fault in FAULTS.values():
            print(f"{fault.name:28} {fault.story}")
        return 0
    try:
        cases = _cases(arguments)
    except KeyError as unknown:
        print(f"there is no fault {unknown}; python -m chaos --list shows them", file=sys.stderr)
        return 2
    programs.adopt_orphans()
    try:
        results = asyncio.run(_run_all(cases, arguments.out))
    except asyncio.CancelledError:
        return 130
    print_table(results)
    return 0 if results and all(result.passed for result in results) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument(
        "--seconds", type=_positive, default=SECONDS, help="how long faults are done in a run"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--faults", default="", help="a,b+c runs a, then b with c; or: all")
    parser.add_argument("--runs", type=_whole, help=f"of cases drawn from the seed (default: {RUNS})")
    parser.add_argument("--out", type=Path, help="JSON lines are added here")
    parser.add_argument("--list", action="store_true", help="show the faults and leave")
    return parser.parse_args()


def _positive(text: str) -> float:
    try:
        if 0 < (value := float(text)) < 86_400:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _cases(arguments: argparse.Namespace) -> list[Case]:
    """Raises KeyError for a fault that does not exist."""
    seed = SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    chosen = [tuple(name.split("+")) for name in arguments.faults.split(",") if name]
    if chosen == [("all",)]:
        chosen = [*((name,) for name in FAULTS), *PAIRS]
    elif not chosen:
        chosen = [_drawn(Random(seed + number)) for number in range(arguments.runs or RUNS)]
    else:
        chosen *= arguments.runs or 1
    for name in {name for names in chosen for name in names}:
        FAULTS[name]
    return [
        Case(faults=names, seed=seed + number, seconds=arguments.seconds)
        for number, names in enumerate(chosen)
    ]


def _cancelled_by_signals() -> None:
    """Whatever ends this run, its servers and folders go with it."""
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _run(case: Case) -> Result:
    """What goes wrong with a run itself fails it, and does not stop the others."""
    try:
        return await run(case)
    except Exception as error:
        Console(stderr=True).print_exception()
        return failed(case, error)


def _drawn(random: Random) -> tuple[str, ...]:
    return tuple(random.sample(sorted(FAULTS), random.choice([1, 2])))


async def _run_all(cases: Sequence[Case], out: Path | None) -> list[Result]:
    console = Console()
    results: list[Result] = []
    _cancelled_by_signals()
    for number, case in enumerate(cases, start=1):
        console.print(
            f"[{number}/{len(cases)}] {case.name} seed {case.seed} …", markup=False, highlight=False
        )
        result = await _run(case)
        results.append(result)
        if out:
            append(out, result)
        word = "held" if result.passed else "FAILED"
        console.print(f"    {word} after {result.took_seconds:.0f} s", markup=False, highlight=False)
    return results


if __name__ == "__main__":
    sys.exit(main())
