"""What was measured on."""

import os
import platform
import subprocess
import timeit
from importlib.metadata import version
from pathlib import Path

import psutil


def machine() -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({platform.python_compiler()})",
        "a line of Python that makes a dictionary": f"{_python_nanoseconds():.0f} ns",
        "load average at the begin": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "commit": _commit(),
        **{name: version(name) for name in ("order-processor", "asyncpg", "uvicorn", "uvloop", "starlette")},
    }


def _python_nanoseconds() -> float:
    """Tells machines apart, and interpreters: one built without optimisation takes half as long again."""
    loop = 'known[len(known) % 100] = {"name": str(number), "size": [number, number + 1]}; number += 1'
    return min(timeit.repeat(loop, "known, number = {}, 0", number=100_000, repeat=20)) * 1e4


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
