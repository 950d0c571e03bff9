"""`make compose-test`: the compose file, run for real from an empty engine to an empty engine.

Takes ports that are free unless the variables of .env.example are set, and removes what it started.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

import httpx

from infra.checks.engine import PROJECT, CheckFailed, Engine, find_engine
from infra.checks.ports import free_ports, taken

PREFIX = "order_processor-"
ORDER, PROCESSOR = f"{PREFIX}order-service", f"{PREFIX}processor-service"
SERVERS = ("rabbitmq", "order-db", "processor-db")
SERVICES = ("order-service", "processor-service")
DEFAULT_PORTS = {
    "RABBITMQ_PORT": 5672,
    "RABBITMQ_MANAGEMENT_PORT": 15672,
    "ORDER_DB_PORT": 5433,
    "PROCESSOR_DB_PORT": 5434,
    "ORDER_PORT": 8000,
    "PROCESSOR_PORT": 8001,
}
OTHER_PORTS = ("PROMETHEUS_PORT", "GRAFANA_PORT")
START_SECONDS_MAX, SETTLE_SECONDS_MAX = 180.0, 90.0
SAMPLES: dict[str, tuple[list[dict[str, Any]], str, str | None]] = {
    "ord-sample-success": (
        [{"sku": "laptop", "quantity": 1, "price": 1200.0}, {"sku": "mouse", "quantity": 2, "price": 25.0}],
        "done",
        None,
    ),
    "ord-embargo-1": (
        [
            {"sku": "pineapple_pizza", "quantity": 1, "price": 15.0},
            {"sku": "teapot", "quantity": 1, "price": 30.0},
        ],
        "failed",
        "Pineapple/teapot embargo",
    ),
}


class Stack:
    """The system as somebody on this machine sees it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        environ = engine.environ
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{environ['ORDER_PORT']}", timeout=10)
        self.processor = httpx.Client(base_url=f"http://127.0.0.1:{environ['PROCESSOR_PORT']}", timeout=10)
        self.orders: dict[str, tuple[str, str | None]] = {}

    def up(self) -> None:
        must(self.engine.compose("up", "-d"), "up -d")
        within(START_SECONDS_MAX, self._problem)

    def order(self, order_id: str, items: list[dict[str, Any]], status: str, reason: str | None) -> None:
        """Send an order until it is accepted, as a client does; `all_final` looks for what becomes of it."""
        body = {"order_id": order_id, "customer_id": "cust-123", "items": items}

        def problem() -> str | None:
            answer = self.api.post("/orders", json=body)
            return None if answer.status_code == 201 else f"{answer.status_code} {answer.text}"

        within(SETTLE_SECONDS_MAX, problem)
        self.orders[order_id] = (status, reason)

    def sample_orders(self, suffix: str = "") -> None:
        for order_id, (items, status, reason) in SAMPLES.items():
            self.order(order_id + suffix, items, status, reason)

    def all_final(self) -> None:
        """Wait until every order ever sent is what it is to be, at version 2."""
        for order_id, (status, reason) in self.orders.items():
            within(SETTLE_SECONDS_MAX, partial(self._unfinished, order_id, status, reason))

    def _unfinished(self, order_id: str, status: str, reason: str | None) -> str | None:
        answer = self.api.get(f"/orders/{order_id}")
        stored = answer.json() if answer.status_code == 200 else {}
        seen = tuple(stored.get(name) for name in ("status", "fail_reason", "version"))
        return None if seen == (status, reason, 2) else f"{order_id}: {answer.status_code} {answer.text}"

    def _problem(self) -> str | None:
        answers = {name: client.get("/ready") for name, client in self._clients().items()}
        return next((f"{n}: {a.text}" for n, a in answers.items() if a.status_code != 200), None)

    def _clients(self) -> dict[str, httpx.Client]:
        return {"order-service": self.api, "processor-service": self.processor}

    def exec(self, container: str, *command: str) -> str:
        return must(self.engine.docker("exec", container, *command), " ".join(command))

    def sql(self, service: str, statement: str) -> str:
        user, database = (
            ("orders", "order-db") if service == "order-service" else ("processor", "processor-db")
        )
        return self.exec(f"{PREFIX}{database}", "psql", "-U", user, "-d", user, "-Atc", statement).strip()


# the steps, in their order


def without_env_file(stack: Stack) -> str:
    """Without .env and without any variable the ports are those that the README names."""
    plain = {name: value for name, value in stack.engine.environ.items() if name not in DEFAULT_PORTS}
    config = must(stack.engine.compose("config", environ=plain), "config")
    missing = [port for port in DEFAULT_PORTS.values() if not re.search(rf"\b{port}\b", config)]
    expect(not missing, f"the default ports {missing} are not in the configuration")
    expect("not set" not in config, "a variable has no default")
    return ", ".join(f"{name}={port}" for name, port in DEFAULT_PORTS.items())


def build(stack: Stack) -> str:
    must(stack.engine.compose("build"), "build")
    sizes = {}
    for image in (ORDER, PROCESSOR):
        size = must(stack.engine.docker("image", "inspect", "-f", "{{.Size}}", image), "image inspect")
        sizes[image] = f"{int(size) / 1e6:.0f} MB"
    return ", ".join(f"{image} {size}" for image, size in sizes.items())


def port_taken(stack: Stack) -> str:
    """One line says which port it is, and the next `up` goes on from there."""
    port = stack.engine.environ["ORDER_PORT"]
    with taken(int(port)):
        result = stack.engine.compose("up", "-d")
    expect(result.code != 0, "up -d succeeded although a port is taken")
    lines = [line for line in result.output.splitlines() if port in line]
    expect(bool(lines), f"nothing names the port {port}: {result.output[-500:]}")
    return lines[-1].strip()


def up(stack: Stack) -> str:
    started = time.monotonic()
    stack.up()
    within(
        60, lambda: next((name for name in (*SERVERS, *SERVICES) if _health(stack, name) != "healthy"), None)
    )
    return f"ready and healthy after {time.monotonic() - started:.0f} s"


def samples(stack: Stack) -> str:
    stack.sample_orders()
    stack.all_final()
    return ", ".join(f"{order_id} {status}" for order_id, (status, _) in stack.orders.items())


def migrations(stack: Stack) -> str:
    for container in (ORDER, PROCESSOR):
        for _ in range(2):
            must(
                stack.engine.in_terminal("exec", "-it", container, "alembic", "upgrade", "head"),
                "alembic upgrade head",
            )
    return "alembic upgrade head, twice in each service"


def hardened(stack: Stack) -> str:
    for container in (ORDER, PROCESSOR):
        expect(stack.exec(container, "id", "-u").strip() == "10001", "the service runs as root")
        expect(
            stack.engine.docker("exec", container, "touch", "/app/x").code != 0, "its files can be changed"
        )
        for tool in ("pip", "gcc", "make", "git"):
            found = stack.engine.docker("exec", container, "sh", "-c", f"command -v {tool}")
            expect(found.code != 0, f"{tool} is in the image")
    return "user 10001, read-only, no pip, gcc, make or git"


def broker_policies(stack: Stack) -> str:
    columns = "name,policy,arguments"
    queues = stack.exec(f"{PREFIX}rabbitmq", "rabbitmqctl", "-q", "list_queues", *columns.split(","))
    for queue in ("order-service.order.processed", "processor-service.order.created"):
        expect(bool(re.search(rf"^{queue}\s+orders\b", queues, re.M)), f"no policy for {queue}: {queues}")
    return "queue limits and dead-lettering by policy"


def tests_inside(stack: Stack) -> str:
    """The tests of each service in its container; nothing of the service changes by them."""
    before = _contents(stack)
    totals = []
    for container in (ORDER, PROCESSOR):
        result = stack.engine.in_terminal("exec", "-it", container, "pytest", "tests/", "-v")
        must(result, f"pytest tests/ -v in {container}")
        last = re.sub(r"\x1b\[[0-9;]*m", "", result.output.strip().splitlines()[-1]).strip("= ")
        totals.append(f"{container}: {last}")
    expect(_contents(stack) == before, f"the tests changed data of a service: {before} {_contents(stack)}")
    return "; ".join(totals)


def restarts(stack: Stack) -> str:
    """Each container alone, in an order that differs every time, then all at once, with orders under way."""
    names = [*SERVERS, *SERVICES]
    seed = int(os.environ.get("SEED") or Random().randrange(10**6))
    Random(seed).shuffle(names)
    for number, name in enumerate(names):
        must(stack.engine.docker("restart", f"{PREFIX}{name}"), f"restart {name}")
        stack.sample_orders(f"-restart-{number}")
    must(stack.engine.docker("kill", *(f"{PREFIX}{name}" for name in names)), "kill")
    must(stack.engine.docker("start", *(f"{PREFIX}{name}" for name in names)), "start")
    stack.sample_orders("-killed")
    within(START_SECONDS_MAX, stack._problem)
    stack.all_final()
    return f"{' → '.join(names)} (SEED={seed}), then all killed at once: {len(stack.orders)} orders final"


def metrics(stack: Stack) -> str:
    """The profile `observability`: Prometheus finds every target, and its alerts know of an outage."""
    must(stack.engine.compose("--profile", "observability", "up", "-d", "prometheus"), "up -d prometheus")
    within(60, partial(_unmet, stack, "count(up == 1)", 3))
    must(stack.engine.docker("stop", f"{PREFIX}rabbitmq"), "stop rabbitmq")
    within(60, partial(_unmet, stack, 'count(ALERTS{alertname="BrokerDisconnected"})', 2))
    must(stack.engine.docker("start", f"{PREFIX}rabbitmq"), "start rabbitmq")
    within(60, partial(_unmet, stack, "count(broker_connected == 1)", 2))
    return "3 targets up; without RabbitMQ the alert BrokerDisconnected of both services is pending"


def graceful_stop(stack: Stack) -> str:
    for name in SERVICES:
        must(stack.engine.docker("stop", "-t", "30", f"{PREFIX}{name}"), f"stop {name}")
        code = must(
            stack.engine.docker("inspect", "-f", "{{.State.ExitCode}}", f"{PREFIX}{name}"), "inspect"
        ).strip()
        expect(code == "0", f"{name} exited with {code} on SIGTERM")
        must(stack.engine.docker("start", f"{PREFIX}{name}"), f"start {name}")
    return "exit code 0 on SIGTERM"


def logs(stack: Stack) -> str:
    count = 0
    for name in SERVICES:
        output = must(stack.engine.docker("logs", f"{PREFIX}{name}"), "logs")
        for line in output.splitlines():
            entry = json.loads(line)
            expect({"timestamp", "level", "event", "service"} <= entry.keys(), f"not a log line: {line}")
            count += 1
        told = [order_id for order_id in stack.orders if order_id in output]
        expect(not told, f"{name} logs lines about single orders: {told}")
    return f"{count} lines, each a JSON object; none for an order"


def down_and_up(stack: Stack) -> str:
    must(stack.engine.compose("--profile", "observability", "down"), "down")
    stack.up()
    stack.all_final()
    return f"{len(stack.orders)} orders are still there"


def down(stack: Stack) -> str:
    must(stack.engine.compose("--profile", "observability", "down", "-v"), "down -v")
    left = must(stack.engine.docker("volume", "ls", "-q"), "volume ls").split()
    left = [volume for volume in left if volume.startswith(PROJECT)]
    expect(not left and not _containers(stack.engine), f"left behind: {left} {_containers(stack.engine)}")
    return "no container and no volume is left"


STEPS: tuple[Callable[[Stack], str], ...] = (
    without_env_file,
    build,
    port_taken,
    up,
    samples,
    migrations,
    hardened,
    broker_policies,
    tests_inside,
    metrics,
    restarts,
    graceful_stop,
    logs,
    down_and_up,
    down,
)


def main() -> int:
    try:
        engine = find_engine(_with_ports(os.environ))
        if running := _containers(engine):
            raise CheckFailed(f"these containers exist already, and are not touched: {', '.join(running)}")
    except CheckFailed as failure:
        print(f"compose-test: {failure}", file=sys.stderr)
        return 2
    stack = Stack(engine)
    try:
        for step in STEPS:
            print(f"  {step.__name__.replace('_', ' ')} …", flush=True)
            started = time.monotonic()
            told = step(stack)
            print(
                f"✓ {step.__name__.replace('_', ' ')} ({time.monotonic() - started:.0f} s): {told}",
                flush=True,
            )
    except CheckFailed as failure:
        print(f"✗ {failure}", file=sys.stderr)
        print(engine.compose("ps", "-a").output + engine.compose("logs", "--tail=30").output, file=sys.stderr)
        return 1
    finally:
        engine.compose("--profile", "observability", "down", "-v", "--remove-orphans")
    print("compose-test passed")
    return 0


def _with_ports(environ: Mapping[str, str]) -> dict[str, str]:
    names = (*DEFAULT_PORTS, *OTHER_PORTS)
    chosen = {name: value for name in names if (value := environ.get(name))}
    with free_ports(len(names)) as free:
        return {**environ, **dict(zip(names, map(str, free), strict=True)), **chosen}


def _containers(engine: Engine) -> list[str]:
    listed = must(engine.docker("ps", "-a", "--format", "{{.Names}}"), "ps").split()
    return [name for name in listed if name.startswith(PREFIX)]


def _health(stack: Stack, name: str) -> str:
    inspected = stack.engine.docker("inspect", "-f", "{{.State.Health.Status}}", f"{PREFIX}{name}")
    return inspected.output.strip()


def _unmet(stack: Stack, query: str, wanted: int) -> str | None:
    url = f"http://127.0.0.1:{stack.engine.environ['PROMETHEUS_PORT']}/api/v1/query"
    found = httpx.get(url, params={"query": query}).json()["data"]["result"]
    return None if found and float(found[0]["value"][1]) == wanted else f"{query} is {found}"


def _contents(stack: Stack) -> list[str]:
    """What the services hold: rows of each, and the queues of their virtual host."""
    queues = stack.exec(f"{PREFIX}rabbitmq", "rabbitmqctl", "-q", "list_queues", "name", "messages")
    orders = stack.sql("order-service", "SELECT count(*), max(updated_at) FROM orders")
    states = stack.sql("processor-service", "SELECT count(*), max(version) FROM processing_states")
    databases = stack.sql(
        "order-service", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
    )
    return [*sorted(queues.splitlines()), orders, states, databases]


def must(result: Any, what: str) -> str:
    expect(result.code == 0, f"{what} ended with {result.code}: {result.output[-2000:]}")
    return str(result.output)


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)


def within(seconds: float, problem: Callable[[], str | None]) -> None:
    """Wait until `problem` returns None. Raises CheckFailed with the last one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            last = problem()
        except httpx.HTTPError as error:
            last = repr(error)
        if last is None:
            return
        expect(time.monotonic() < deadline, f"after {seconds:g} s still: {last}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
