"""`make audit`: known vulnerabilities of what runs in production (requirements/runtime.txt), by pip-audit.

The advisories are those of OSV, over the network. Without it nothing is audited: that is said loudly, and
passes unless `--required` is given, as in a release.
"""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--timeout", "10"),
    *("--requirement", "requirements/runtime.txt", "--require-hashes", "--disable-pip"),
    *("--format", "json", "--progress-spinner", "off"),
)
NOT_AUDITED = """
********************************************************************************
  SKIPPED: dependencies were NOT audited, since no advisories could be read:
  {reason}
  Run 'make audit REQUIRED=1' where the network allows it, before a release.
********************************************************************************
"""


def main() -> int:
    """0: nothing known, or not audited and not required to be; 1: otherwise."""
    done = subprocess.run(COMMAND, cwd=PROJECT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = next(reversed(done.stderr.strip().splitlines()), "pip-audit said nothing")[:200]
        print(NOT_AUDITED.format(reason=reason), file=sys.stderr)
        return 1 if "--required" in sys.argv[1:] else 0
    found = 0
    for package in packages:
        for flaw in package.get("vulns", ()):
            found += 1
            mended = ", ".join(flaw["fix_versions"]) or "no version yet"
            name = f"{package['name']} {package['version']}"
            print(f"{name}: {flaw['id']}, mended in {mended}", file=sys.stderr)
    print(f"audited {len(packages)} packages: {found} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
