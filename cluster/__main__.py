"""The command `make cluster-test`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from random import SystemRandom

from rich.console import Console

from chaos import programs
from cluster.phases import PHASES, Phase
from cluster.run import Result, run
from cluster.table import print_table


def main() -> int:
    """0: all held; 1: not, or the test itself failed; 2: wrong usage; 130: interrupted."""
    arguments = _arguments()
    names = [name for name in arguments.phases.split(",") if name]
    if unknown := [name for name in names if name not in {phase.name for phase in PHASES}]:
        known = ", ".join(phase.name for phase in PHASES)
        print(f"there is no phase {', '.join(unknown)}; there are: {known}", file=sys.stderr)
        return 2
    phases = [phase for phase in PHASES if not names or phase.name in names]
    seed = SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    programs.adopt_orphans()
    results: list[Result] = []
    try:
        asyncio.run(_run(phases, arguments.per_second, seed, results))
    except asyncio.CancelledError:
        print_table(results, seed)
        return 130
    except Exception:
        Console(stderr=True).print_exception()
    print_table(results, seed)
    held = len(results) == len(phases) and not any(result.violations for result in results)
    return 0 if held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make cluster-test")
    parser.add_argument("--per-second", type=float, default=60.0, help="orders, repetitions and looks")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--phases", default="", help="a,b: only these, in their order")
    return parser.parse_args()


async def _run(phases: Sequence[Phase], per_second: float, seed: int, results: list[Result]) -> None:
    _cancelled_by_signals()
    console = Console()
    console.print("starting three nodes of RabbitMQ, two of PostgreSQL, two processes of each service …")
    async for result in run(phases, per_second=per_second, seed=seed):
        results.append(result)
        word = "FAILED" if result.violations else "held"
        console.print(f"{result.phase.name}: {result.effect.seen}: {word}", markup=False, highlight=False)


def _cancelled_by_signals() -> None:
    """Whatever ends this run, its servers and folders go with it."""
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


if __name__ == "__main__":
    sys.exit(main())
