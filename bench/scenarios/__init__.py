"""What is measured, in the order of the report."""

from bench.scenarios import drain, growth, intake, keys, latency, overload, soak, sustained, traces, webhooks
from bench.scenarios.scenario import Scenario
from bench.yardsticks import broker, pgbench, plain

_ALL = (
    intake,
    pgbench,
    sustained,
    broker,
    plain,
    latency,
    drain,
    overload,
    growth,
    soak,
    traces,
    keys,
    webhooks,
)
SCENARIOS: dict[str, Scenario] = {module.SCENARIO.name: module.SCENARIO for module in _ALL}
