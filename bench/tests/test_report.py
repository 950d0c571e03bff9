"""The report of made-up figures."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import results
from bench.report import svg, write_report
from bench.report.figures import Measured
from bench.report.page import page, plots
from bench.report.targets import targets
from bench.results import Results
from bench.scenarios import SCENARIOS
from bench.scenarios.scenario import QUICK, Lengths
from bench.yardsticks import pgbench

_LATENCY = {"p50": 0.005, "p99": 0.02, "p99.9": 0.04}
_CPU = {"order-service": 100.0, "RabbitMQ": 50.0}
_POSTED = {"percentiles": _LATENCY, "generator_us": 12.0, "cpu": _CPU}
_READ = _POSTED | {"rate": 9000.0}
_COURSE = {
    "rate": 3000.0,
    "found_rate": 3150.0,
    "offered": 3000.0,
    "percentiles": _LATENCY,
    "statuses": {"201": 180_000},
    "backlog": [[0.0, 0], [30.0, 40], [60.0, 20]],
    "backlog_at_stop": 20,
    "drained_seconds": 0.1,
    "cpu": _CPU,
}
_PLAIN = {"rate": 40.0, "drain_rate": 45.0, "accepted_rate": 500.0}


def _runs() -> dict[str, list[dict[str, Any]]]:
    def intake(rate: float) -> dict[str, Any]:
        return {"connections": {"1": _POSTED | {"rate": 900.0}, "64": _POSTED | {"rate": rate}}}

    sample = {"order-service": 90.0, "processor-service": 80.0} | {
        "outbox of orders": 5.0,
        "outbox of the processor": 4.0,
    }
    return {
        "intake": [intake(rate) | {"reading": _READ} for rate in (5900.0, 6100.0, 6300.0)],
        "pgbench": [{"clients": {"32": {"rate": 12_200.0}}}],
        "sustained": [{"1": _COURSE, "100": _COURSE, "took_seconds": 100.0}],
        "broker": [{what: {"rate": 9e3, "client_us": 4.0} for what in ("publish", "consume", "both")}],
        "plain": [{"5": _PLAIN, "0.05": _PLAIN | {"rate": 50.0}, "took_seconds": 9.0}],
        "latency": [{"idle": _LATENCY, "rates": {"200": {**_LATENCY, "answer": _LATENCY}}}],
        "drain": [{"rate": 5500.0, "orders": 100_000, "cpu": _CPU}],
        "overload": [_COURSE | {"wanted": 6000.0, "without_retry_after": 0}],
        "growth": [{"orders": {"0": _growth(1000.0), "1000": _growth(800.0)}}],
        "soak": [
            _COURSE
            | {"orders": 1000, "samples": [{"seconds": 0.0, **sample}, {"seconds": 9.0, **sample}]}
            | {"tables": {"orders": {"outbox": 5.0}, "processor": {"outbox": 4.0}}}
            | {"growth_megabytes_a_minute": {"order-service": 0.1}}
        ],
        "traces": [
            {"off": _traced(off), "10 %": _traced(0.95 * off), "100 %": _traced(0.5 * off)}
            for off in (1000.0, 2000.0)
        ],
    }


def _traced(rate: float) -> dict[str, Any]:
    return {"rate": rate, "cpu": {"order-service": 1e6 / rate, "processor-service": 5e5 / rate}}


def _growth(rate: float) -> dict[str, Any]:
    return {"intake_rate": rate, "rate": rate, "random_rate": rate, "megabytes": {"orders": 2.0}}


@pytest.fixture
def measured() -> Results:
    return Results(
        machine={"processor": "a <fast> one"},
        versions={"PostgreSQL": "15"},
        begun_at="2026-01-02T03:04:05+00:00",
        quick=False,
        private_servers=True,
        runs=_runs(),
    )


def test_the_report_and_its_plots_are_written(measured: Results, tmp_path: Path) -> None:
    text = write_report(measured, tmp_path).read_text()
    for name in plots(measured):
        assert f"plots/{name}.svg" in text
        ElementTree.parse(tmp_path / "plots" / f"{name}.svg")


def test_a_figure_is_the_median_of_its_runs(measured: Results) -> None:
    assert Measured(measured, "intake").median("connections", "64", "rate") == 6100.0
    assert "| POST, 64 connections | 6,100 |" in page(measured)


def test_a_scenario_that_was_not_measured_is_left_out(measured: Results) -> None:
    measured.runs = {}
    text = page(measured)
    assert "## Targets" in text and "## Intake" not in text
    assert not plots(measured)
    assert all(target.met is None for target in targets(measured) if "left" not in target.text)


def test_what_failed_is_told(measured: Results) -> None:
    measured.failed["drain"] = "TimeoutError"
    assert "**drain failed:** TimeoutError" in page(measured)


def test_targets_are_met_or_missed(measured: Results) -> None:
    met = {target.text: target.met for target in targets(measured)}
    assert met["intake at 64 connections, broker away"] is True
    assert met["the same as a share of `pgbench -c 32`"] is True
    assert met["sustained end to end, 1 event a message"] is True
    assert met["sustained end to end, 100 events a message"] is False
    assert met["loss of intake with 1,000 orders in the tables"] is False
    assert met["times the plain implementation, end to end (the best of its figures)"] is True
    assert met["loss of throughput when 10 % of the orders are traced"] is True


def test_what_tracing_costs_is_compared_within_each_run(measured: Results) -> None:
    [loss] = [target for target in targets(measured) if "traced" in target.text]
    assert loss.value == pytest.approx(5)
    assert "| tracing 10 % | 1,425 |" in page(measured)


@pytest.mark.parametrize("figure", ["rate", "drain_rate"])
def test_the_plain_implementation_is_compared_at_its_best(measured: Results, figure: str) -> None:
    measured.runs["plain"] = [{"5": _PLAIN, "0.05": _PLAIN | {figure: 300.0}}]
    [times] = [target for target in targets(measured) if target.text.startswith("times the plain")]
    assert times.value == pytest.approx(3000.0 / 300.0)


def test_each_run_is_compared_with_its_own_plain_one(measured: Results) -> None:
    measured.runs["sustained"] = [{"1": _COURSE | {"rate": rate}} for rate in (4000.0, 5000.0, 6000.0)]
    measured.runs["plain"] = [{"5": _PLAIN | {"drain_rate": rate}} for rate in (100.0, 50.0, 100.0)]
    [times] = [target for target in targets(measured) if target.text.startswith("times the plain")]
    assert times.value == 60.0
    assert times.spread == 1.0
    del measured.runs["plain"][0]  # it failed: nobody knows which of the others belong together
    [times] = [target for target in targets(measured) if target.text.startswith("times the plain")]
    assert times.value is None


def test_results_are_read_as_they_were_written(measured: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json", measured)
    assert results.read(tmp_path / "results.json") == measured


@pytest.mark.parametrize(
    "drawing",
    [
        svg.bars("a & b", {}, "s"),
        svg.bars("zero", {"a": 0.0}, "s"),
        svg.stacked("none", {"a": {}}, "µs"),
        svg.lines("empty", {"a": []}, "MB"),
    ],
)
def test_a_plot_of_nothing_is_a_plot(drawing: str) -> None:
    ElementTree.fromstring(drawing)


def test_a_full_run_fits_into_its_time() -> None:
    lengths = Lengths()
    standard = [scenario for scenario in SCENARIOS.values() if scenario.by_default]
    seconds = sum(
        scenario.seconds(lengths) * (lengths.repeats if scenario.repeated else 1) for scenario in standard
    )
    assert seconds < 40 * 60
    assert sum(scenario.seconds(QUICK) for scenario in standard) < 180


def test_pgbench_runs_the_statement_of_the_intake() -> None:
    script = pgbench.script()
    assert "$" not in script and script.count("ARRAY[") == 7
    assert "ON CONFLICT (order_id) DO NOTHING" in script
