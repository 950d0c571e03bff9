"""Runs scenarios, each as often as it is to be repeated, and shows how far it is."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.machine import machine
from bench.results import Results
from bench.scenarios.scenario import Bench, Figures, Lengths, Scenario
from bench.servers import servers


async def run_all(scenarios: Sequence[Scenario], lengths: Lengths, console: Console) -> Results:
    """Each repeated scenario runs once in each round, so that a noisy minute spoils one run of each."""
    clock = asyncio.get_running_loop().time
    begun_at = clock()
    async with servers() as started:
        results = Results(
            machine=machine(),
            versions={"PostgreSQL": await started.version(), "RabbitMQ": started.rabbitmq_version},
            begun_at=datetime.now(UTC).isoformat(timespec="seconds"),
            quick=lengths.quick,
            private_servers=started.are_private,
        )
        plan = [
            scenario
            for number in range(lengths.repeats)
            for scenario in scenarios
            if scenario.repeated or number == lengths.repeats - 1
        ]
        seconds = sum(scenario.seconds(lengths) for scenario in plan)
        with _progress(console, seconds) as progress:
            bar = progress.add_task("", total=seconds)
            for scenario in plan:
                bench = Bench(started, lengths, _teller(progress, bar, scenario), results.runs)
                await _run(scenario, bench, results, progress)
                progress.advance(bar, scenario.seconds(lengths))
        results.took_seconds = clock() - begun_at
    return results


async def _run(scenario: Scenario, bench: Bench, results: Results, progress: Progress) -> None:
    """What goes wrong in one scenario does not stop the others."""
    bench.tell("starting")
    clock = asyncio.get_running_loop().time
    begun_at = clock()
    psutil.cpu_percent()
    try:
        figures: Figures = await scenario.run(bench)
    except Exception as error:
        progress.console.print_exception()
        results.failed[scenario.name] = f"{type(error).__name__}: {error}"
        return
    took = clock() - begun_at
    results.runs.setdefault(scenario.name, []).append(
        figures | {"took_seconds": took, "machine_busy_percent": psutil.cpu_percent()}
    )
    progress.console.print(f"{scenario.name}: {took:.0f} s", markup=False, highlight=False)


def _progress(console: Console, seconds: float) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn(f"of about {timedelta(seconds=round(seconds))}"),
        console=console,
        refresh_per_second=1,  # drawing takes the CPU that is measured
    )


class _teller:  # noqa: N801, a function with a memory
    def __init__(self, progress: Progress, bar: TaskID, scenario: Scenario) -> None:
        self._progress, self._bar, self._scenario = progress, bar, scenario

    def __call__(self, text: str) -> None:
        self._progress.update(self._bar, description=f"{self._scenario.name}: {text}")
