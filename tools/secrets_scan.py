"""`make secrets`: secrets among the files that git knows, by detect-secrets.

Its detectors of what has a form of its own (keys of clouds, tokens, private keys) look at all files but the
locks. Passwords in addresses, which tests and examples are full of, and texts that merely look random are not
looked for.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

PROJECT = Path(__file__).parents[1]
_NOT_USED = {"Base64HighEntropyString", "HexHighEntropyString", "BasicAuthDetector", "KeywordDetector"}


def main() -> int:
    """0: none; 1: some, each with its place and never with itself."""
    found = scan(PROJECT, tracked_files())
    for place in found:
        print(f"{place}: take it out, and take the secret itself out of use", file=sys.stderr)
    return 1 if found else 0


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    names = [name for name in listed.decode().split("\0") if not name.endswith("requirements.txt")]
    return [name for name in names if (PROJECT / name).is_file() and not name.startswith("requirements/")]


def scan(root: Path, names: list[str]) -> list[str]:
    kinds: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    plugins = [{"name": kind.__name__} for kind in kinds if kind.__name__ not in _NOT_USED]
    with transient_settings({"plugins_used": plugins}):
        secrets = SecretsCollection(root=str(root))
        for name in names:
            secrets.scan_file(name)
        return sorted(f"{name}:{secret.line_number}: {secret.type}" for name, secret in secrets)


if __name__ == "__main__":
    sys.exit(main())
