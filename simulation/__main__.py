"""The command line: `python -m simulation --seeds 1000`, `--seed 17 --trace`, `--mutations`."""

import argparse
import sys

from simulation.batches import hunt_mutations, run_seeds
from simulation.run import simulate


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.mutations:
        return hunt_mutations(arguments.start, arguments.seeds, known=arguments.known, only=arguments.only)
    if arguments.seed is not None:
        return _run_one(arguments.seed, trace=arguments.trace)
    return run_seeds(arguments.start, arguments.seeds, jobs=arguments.jobs)


def _run_one(seed: int, *, trace: bool) -> int:
    verdict = simulate(seed, keep_trace=True)
    if trace:
        print("\n".join(verdict.trace.lines))
    print(
        f"seed {seed}: {verdict.events} events, {verdict.steps} steps, {verdict.seconds:.1f} virtual seconds,"
        f" trace {verdict.trace.digest()[:16]}"
    )
    for violation in verdict.violations:
        print(f"  VIOLATION {violation}")
    return 1 if verdict.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=_positive, default=1000, help="how many seeds, from --start on")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=_positive, default=1, help="processes to run them in")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happened")
    parser.add_argument(
        "--mutations", action="store_true", help="look for a seed that catches each known bug"
    )
    parser.add_argument(
        "--known", action="store_true", help="with --mutations: only the seeds that are known"
    )
    parser.add_argument("--only", default="", help="with --mutations: those with these words in their name")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
