"""pgbench with the very statement of the intake: one order, its event, a commit; again and again."""

import asyncio
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from bench import cpu
from bench.load.spec import AMOUNT, ITEMS
from bench.scenarios.scenario import Bench, Figures, Scenario
from chaos import programs
from order_service.infrastructure.intake import INSERT_NEW

CLIENTS = (32, 1, 8)
_ID = "'p-' || :id"
_PAYLOAD = (
    f"""'{{"order_id": "p-' || :id || '", "customer_id": "customer-17", "items": {ITEMS}, """
    f""""amount": {AMOUNT}, "version": 1}}'"""
)
_VALUES = (
    _ID,
    "'customer-17'",
    f"'{ITEMS}'",
    AMOUNT,
    _PAYLOAD,
    "'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'",
    "0.001",
)
_INSTANCE = ("$8::text", "'pgbench'")
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


def script() -> str:
    """The statement with arrays of one element in place of its parameters."""
    statement = INSERT_NEW.strip().replace(*_INSTANCE)
    for number, value in enumerate(_VALUES, start=1):
        statement = statement.replace(f"${number}::", f"ARRAY[{value}]::")
    return f"\\set id random(1, 1000000000000000)\n{statement};\n"


async def run(bench: Bench) -> Figures:
    program = _program()
    if program is None:
        return {"clients": {}, "missing": "pgbench is not installed"}
    figures: Figures = {"clients": {}}
    file = bench.servers.folder / "pgbench.sql"
    file.write_text(script())
    async with bench.servers.database("orders") as dsn:
        for clients in CLIENTS:
            bench.tell(f"pgbench -c {clients}")
            before = _database_seconds(bench)
            rate = await _pgbench(program, dsn, file, clients, bench.lengths.pgbench_seconds)
            spent = _database_seconds(bench) - before
            orders = rate * bench.lengths.pgbench_seconds
            figures["clients"][str(clients)] = {"rate": rate, "database_us": 1e6 * spent / orders}
    return figures


def _program() -> Path | None:
    beside = programs.postgres_folder() / "pgbench"
    found = shutil.which("pgbench")
    return beside if beside.exists() else Path(found) if found else None


async def _pgbench(program: Path, dsn: str, file: Path, clients: int, seconds: int) -> float:
    parts = urlsplit(dsn)
    process = await asyncio.create_subprocess_exec(
        program,
        *("-n", "-M", "prepared", "-f", str(file), "-T", str(seconds)),
        *("-c", str(clients), "-j", str(min(2, clients))),
        *("-h", str(parts.hostname), "-p", str(parts.port or 5432)),
        *(("-U", parts.username) if parts.username else ()),
        parts.path.removeprefix("/"),
        env={"PGPASSWORD": parts.password or "", "LC_ALL": "C"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    found = _TPS.search(output.decode())
    if process.returncode or not found:
        raise RuntimeError(f"pgbench: {output.decode()[-500:]}")
    return float(found[1])


def _database_seconds(bench: Bench) -> float:
    usage = cpu.usage(services={}, postgres_pid=bench.servers.postgres_pid, rabbitmq_pid=None)
    return sum(usage.seconds.values())


SCENARIO = Scenario(
    name="pgbench",
    story="yardstick of the intake: pgbench with the same statement, one order a commit",
    run=run,
    seconds=lambda lengths: 3 * lengths.pgbench_seconds + 2,
)
