"""`make rules`: alert rules and their tests, the configuration and both services' metrics, by promtool."""

import shutil
import subprocess
import sys

from prometheus_client import generate_latest

from infra.checks.engine import FOLDER
from order_service.infrastructure.metrics import OrderMetrics
from processor_service.infrastructure.metrics import ProcessorMetrics

PROMETHEUS = FOLDER / "prometheus"
CHECKS = (
    ("check", "config", "prometheus.yml"),
    ("check", "rules", "alerts.yml"),
    ("test", "rules", "alerts_test.yml"),
)
WITHOUT_PROMTOOL = """
********************************************************************************
  SKIPPED: alert rules and metrics were NOT checked, since promtool is missing.
  On Debian: apt-get install --no-install-recommends prometheus
********************************************************************************
"""


def main() -> int:
    if not shutil.which("promtool"):
        print(WITHOUT_PROMTOOL, file=sys.stderr)
        return 0
    passed = [_promtool(*check) is not None for check in CHECKS]
    for metrics in (OrderMetrics(), ProcessorMetrics()):
        # Its exit code is 0 for what it only finds unusual: clean is what has no output.
        passed.append(_promtool("check", "metrics", given=generate_latest(metrics.registry)) == "")
    return 0 if all(passed) else 1


def _promtool(*arguments: str, given: bytes = b"") -> str | None:
    """What it says, or None if it says that something is wrong."""
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=PROMETHEUS,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode().strip()
    print(f"promtool {' '.join(arguments)}: {'ok' if not done.returncode else 'FAILED'}")
    if done.returncode or given:
        print(output, end="\n" if output else "")
    return output if not done.returncode else None


if __name__ == "__main__":
    sys.exit(main())
