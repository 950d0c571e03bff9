"""What was measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil


def machine() -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "load average at the begin": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "commit": _commit(),
        **{name: version(name) for name in ("order-processor", "asyncpg", "uvicorn", "uvloop", "starlette")},
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return asked.stdout.strip() or "unknown"
