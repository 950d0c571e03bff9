"""Many seeds: progress, rate, what failed and how to run it again; and the hunt for the mutations."""

import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from time import monotonic

from simulation.mutation_list import MUTATIONS
from simulation.mutations import Mutation
from simulation.run import Verdict, simulate

_PROGRESS_SECONDS = 5.0


def run_seeds(start: int, count: int, *, jobs: int) -> int:
    """Returns 1 when any seed failed."""
    began, told = monotonic(), monotonic()
    done = failed = events = 0
    for seed, violations, some in _verdicts(range(start, start + count), jobs):
        done, events = done + 1, events + some
        if violations:
            failed += 1
            print(f"\nseed {seed} FAILED: {violations[0]}", *violations[1:3], sep="\n  ")
            print(f"  run it again: {sys.executable} -m simulation --seed {seed} --trace", flush=True)
        if monotonic() - told > _PROGRESS_SECONDS:
            told = monotonic()
            print(
                f"{done} of {count} seeds, {failed} failed, {done / (told - began):.1f} a second", flush=True
            )
    seconds = monotonic() - began
    print(
        f"{done} seeds from {start} on, {failed} failed; {events} events, {events / max(1, done):.0f} a seed;"
        f" {seconds:.0f} s, {done / seconds:.1f} seeds a second in {jobs} process(es)"
    )
    return 1 if failed else 0


Summary = tuple[int, list[str], int]


def _verdicts(seeds: Iterable[int], jobs: int) -> Iterator[Summary]:
    if jobs == 1:
        yield from map(_summary, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_summary, seeds, chunksize=20)


def _summary(seed: int) -> Summary:
    verdict = simulate(seed)
    return seed, list(verdict.violations), verdict.events


def hunt_mutations(start: int, count: int, *, known: bool, only: str = "") -> int:
    """A line for each mutation: the seed that caught it, and how many runs that took."""
    missed = 0
    mutations = [mutation for mutation in MUTATIONS if only in mutation.name]
    if not mutations:
        names = "\n".join(f"  {mutation.name}" for mutation in MUTATIONS)
        print(f"no mutation has {only!r} in its name; there are\n{names}", file=sys.stderr)
        return 2
    for mutation in mutations:
        seeds = [mutation.seed] if known else range(start, start + count)
        caught, runs = hunt(mutation, seeds)
        missed += caught is None
        verdict = f"seed {caught.seed:>4} in run {runs:>4}" if caught else f"MISSED in {runs} runs"
        print(f"{verdict}  {mutation.name}", flush=True)
        if caught:
            print(f"{'':24}{caught.violations[0][:160]}", flush=True)
    print(f"{len(mutations) - missed} of {len(mutations)} mutations caught")
    return 1 if missed else 0


def hunt(mutation: Mutation, seeds: Iterable[int]) -> tuple[Verdict | None, int]:
    runs = 0
    with mutation.applied():
        for seed in seeds:
            runs += 1
            verdict = simulate(seed)
            if verdict.violations:
                return verdict, runs
    return None, runs
