"""The page and its plots."""

from collections.abc import Iterator

from bench import cpu
from bench.report import svg
from bench.report.figures import Measured
from bench.report.markdown import milliseconds, number, percent, table
from bench.report.targets import targets
from bench.results import Results
from bench.scenarios.traces import SHARES
from bench.window import PATH_CONNECTIONS, WINDOW_ORDERS


def page(results: Results) -> str:
    sections = [section for section in _sections(results) if section]
    return "\n\n".join(["# Benchmark report", _about(results), *sections]) + "\n"


def plots(results: Results) -> dict[str, str]:
    """By name, those for which there are figures."""
    return dict(_plots(results))


def _about(results: Results) -> str:
    where = "private servers, durable" if results.private_servers else "given servers"
    kind = "a **quick** run: rough figures" if results.quick else "medians of the runs of each scenario"
    facts = {**results.machine, **{name: text for name, text in results.versions.items() if text}}
    lines = [f"- {name}: {text}" for name, text in facts.items()]
    begun = f"Begun {results.begun_at}, took {results.took_seconds / 60:.0f} minutes; {where}; {kind}."
    explained = (
        "Everything, the load generator included, shares the cores. `make bench` writes this page; "
        "`results.json` holds the figures of all runs. *Spread* is (largest − smallest) / median of the runs."
    )
    failed = [f"**{name} failed:** {reason}" for name, reason in results.failed.items()]
    return "\n\n".join([begun, "\n".join(lines), explained, *failed])


def _sections(results: Results) -> Iterator[str]:
    yield _promised(results)
    yield _intake(results)
    yield _sustained(results)
    yield _costs(results)
    yield _yardsticks(results)
    yield _latency(results)
    yield _backlogs(results)
    yield _growth(results)
    yield _soak(results)
    yield _traces(results)


def _promised(results: Results) -> str:
    rows = []
    for target in targets(results):
        word = {True: "yes", False: "**no**", None: "–"}[target.met]
        bound = f"{'≤' if target.at_most else '≥'} {number(target.bound, target.unit)}"
        spread = percent(target.spread) if target.spread else "–"
        rows.append([target.text, number(target.value, target.unit), bound, word, spread])
    return "## Targets\n\n" + table(["", "measured", "target", "met", "spread"], rows)


def _intake(results: Results) -> str:
    intake, pgbench = Measured(results, "intake"), Measured(results, "pgbench")
    if not intake:
        return ""
    rows = []
    for connections in sorted(intake.keys("connections"), key=int):
        at = ("connections", connections)
        rows.append([f"POST, {connections} connections", *_rate_and_latency(intake, *at)])
    rows.append(["GET, 64 connections", *_rate_and_latency(intake, "reading")])
    for clients in sorted(pgbench.keys("clients"), key=int):
        rate = number(pgbench.median("clients", clients, "rate"))
        rows.append([f"*pgbench -c {clients}*, one order a commit", rate, "–", "–", "–", "–"])
    head = ["", "orders/s", "p50", "p99", "p99.9", "µs of the generator"]
    note = (
        "The broker is away: orders pile up in the outbox. The yardstick is `pgbench -M prepared` with the "
        "service's own statement for one order (order, event, commit)."
    )
    return f"## Intake\n\n{note}\n\n{table(head, rows)}\n\n![](plots/intake.svg)"


def _rate_and_latency(measured: Measured, *path: str) -> list[str]:
    return [
        number(measured.median(*path, "rate")),
        *(milliseconds(measured.median(*path, "percentiles", name)) for name in ("p50", "p99", "p99.9")),
        number(measured.median(*path, "generator_us")),
    ]


def _sustained(results: Results) -> str:
    sustained = Measured(results, "sustained")
    if not sustained:
        return ""
    rows = [
        [
            f"{events} events a message" if events != "1" else "1 event a message",
            number(sustained.median(events, "rate")),
            number(sustained.median(events, "found_rate")),
            number(sustained.median(events, "backlog_at_stop")),
            number(sustained.median(events, "drained_seconds"), "s"),
            milliseconds(sustained.median(events, "percentiles", "p99")),
        ]
        for events in sustained.names()
        if events.isdigit()
    ]
    head = ["", "orders/s held", "most found", "not final at the stop", "final after", "p99 of the answer"]
    note = (
        f"First the most that the path carries is found, by {PATH_CONNECTIONS} clients and never more than "
        f"{WINDOW_ORDERS:,} orders under way; 95 % of it is then sent at a fixed rate, whatever is answered, "
        "and held."
    )
    plot = "![](plots/backlog.svg)"
    return f"## Sustained, end to end\n\n{note}\n\n{table(head, rows)}\n\n{plot}"


def _costs(results: Results) -> str:
    rows = _cost_rows(results)
    if not rows:
        return ""
    head = ["µs of CPU an order", *cpu.PARTS, "sum"]
    lines = [
        [name, *(number(parts.get(part)) for part in cpu.PARTS), number(sum(parts.values()))]
        for name, parts in rows.items()
    ]
    note = (
        "*Intake* is order-service and its database alone; *drain* is everything after the intake; "
        "*sustained* is the whole path."
    )
    return f"## Where the CPU goes\n\n{note}\n\n{table(head, lines)}\n\n![](plots/cpu.svg)"


def _cost_rows(results: Results) -> dict[str, dict[str, float]]:
    found = {
        "intake, 64 connections": Measured(results, "intake").parts("connections", "64", "cpu"),
        "GET": Measured(results, "intake").parts("reading", "cpu"),
        "drain": Measured(results, "drain").parts("cpu"),
        "sustained, 1 event a message": Measured(results, "sustained").parts("1", "cpu"),
        "sustained, 100 events a message": Measured(results, "sustained").parts("100", "cpu"),
        "overload": Measured(results, "overload").parts("cpu"),
    }
    return {name: parts for name, parts in found.items() if parts}


def _yardsticks(results: Results) -> str:
    broker, plain = Measured(results, "broker"), Measured(results, "plain")
    parts = []
    if broker:
        rows = [
            [what, number(broker.median(what, "rate")), number(broker.median(what, "client_us"))]
            for what in ("publish", "consume", "both")
        ]
        rows.append(["*RabbitMQ itself, a publish or a delivery*", "–", number(broker.median("broker_us"))])
        parts.append(
            "The project's broker client in a bare loop: persistent, confirmed, 500 in a write:\n\n"
            + table(["", "messages/s", "µs of CPU"], rows)
        )
    if plain:
        rows = [
            [
                f"polls each {poll} s",
                number(plain.median(poll, "accepted_rate")),
                number(plain.median(poll, "rate")),
                number(plain.median(poll, "drain_rate")),
            ]
            for poll in plain.names()
            if plain.median(poll, "rate") is not None
        ]
        parts.append(
            "The plain implementation (`bench/plain`: SQLAlchemy's ORM, polls its outbox, a connection for "
            "each publish, a transaction for each message). First it only accepts; then as many are posted "
            "as become final, so that the backlog does not grow; then the backlog drains:\n\n"
            + table(["", "accepted/s", "final/s under load", "final/s draining"], rows)
        )
    return "\n\n".join(["## Yardsticks", *parts]) if parts else ""


def _latency(results: Results) -> str:
    latency = Measured(results, "latency")
    if not latency:
        return ""
    rows = [
        [
            f"{rate} orders/s",
            *(milliseconds(latency.median("rates", rate, name)) for name in ("p50", "p99", "p99.9")),
        ]
        + [milliseconds(latency.median("rates", rate, "answer", name)) for name in ("p50", "p99")]
        for rate in latency.keys("rates")
    ]
    idle = [milliseconds(latency.median("idle", name)) for name in ("p50", "p99", "p99.9")]
    rows.append(["one order in an idle system, by GET", *idle, "–", "–"])
    head = ["POST to final", "p50", "p99", "p99.9", "answer p50", "answer p99"]
    note = (
        "From when the POST was due (not from when it could be sent) to the commit of the final state, by "
        "that commit's time stamp."
    )
    return f"## Latency\n\n{note}\n\n{table(head, rows)}"


def _backlogs(results: Results) -> str:
    drain, overload = Measured(results, "drain"), Measured(results, "overload")
    parts = []
    if drain:
        parts.append(
            f"{drain.last('orders'):,} orders waiting in the outbox become final at "
            f"**{number(drain.median('rate'))}/s**."
        )
    if overload:
        statuses = ", ".join(
            f"{count:,} × {status}" for status, count in (overload.last("statuses") or {}).items()
        )
        rows = [
            ["offered", number(overload.median("wanted"), "/s")],
            ["accepted", number(overload.median("offered"), "/s")],
            ["final", number(overload.median("rate"), "/s")],
            ["answers", statuses],
            ["of the 503 without Retry-After", number(overload.median("without_retry_after"))],
            *(
                [f"accepted: answer {name}", milliseconds(overload.median("percentiles", name))]
                for name in ("p50", "p99")
            ),
            ["not final at the stop", number(overload.median("backlog_at_stop"))],
            ["final after", number(overload.median("drained_seconds"), "s")],
        ]
        parts.append("Overload, twice what was sustained:\n\n" + table(["", ""], rows))
    return "\n\n".join(["## Backlog and overload", *parts]) if parts else ""


def _growth(results: Results) -> str:
    growth = Measured(results, "growth")
    if not growth:
        return ""
    rows = [
        [f"{int(orders):,} orders"]
        + [number(growth.median("orders", orders, name)) for name in ("intake_rate", "rate", "random_rate")]
        + [number(growth.median("orders", orders, "megabytes", "orders"), "MB")]
        for orders in growth.keys("orders")
    ]
    head = ["in the tables", "intake/s (broker away)", "end to end/s", "the same, random ids", "orders"]
    return "## Growth\n\n" + table(head, rows)


def _soak(results: Results) -> str:
    soak = Measured(results, "soak")
    if not soak:
        return ""
    tables = {**(soak.last("tables", "orders") or {})}
    rows = [[f"orders: {name}", number(size, "MB")] for name, size in tables.items()]
    rows += [
        [f"processor: {name}", number(size, "MB")] for name, size in soak.last("tables", "processor").items()
    ]
    grown = ", ".join(
        f"{part} {number(value)} MB/min" for part, value in soak.last("growth_megabytes_a_minute").items()
    )
    return (
        f"## Soak\n\n{soak.last('orders'):,} orders at {number(soak.median('rate'))}/s. "
        f"Memory grew by {grown}.\n\n"
        + table(["tables afterwards, with indexes", ""], rows)
        + "\n\n![](plots/memory.svg)\n\n![](plots/outbox.svg)"
    )


def _traces(results: Results) -> str:
    traces = Measured(results, "traces")
    if not traces:
        return ""
    rows = [
        [f"tracing {name}", number(traces.median(name, "rate"))]
        + [number(traces.median(name, "cpu", part)) for part in (cpu.ORDER, cpu.PROCESSOR)]
        for name in SHARES
    ]
    head = ["", "orders/s", cpu.ORDER, cpu.PROCESSOR]
    note = "The most that the path carries, and µs of CPU an order. The collector throws everything away."
    return f"## Traces\n\n{note}\n\n{table(head, rows)}"


def _plots(results: Results) -> Iterator[tuple[str, str]]:
    intake, pgbench = Measured(results, "intake"), Measured(results, "pgbench")
    if intake:
        rates = {
            f"{count} connections": intake.median("connections", count, "rate") or 0.0
            for count in sorted(intake.keys("connections"), key=int)
        }
        for clients in sorted(pgbench.keys("clients"), key=int):
            rates[f"pgbench -c {clients}"] = pgbench.median("clients", clients, "rate") or 0.0
        yield "intake", svg.bars("Intake while the broker is away, and pgbench", rates, "orders/s")
    if rows := _cost_rows(results):
        yield "cpu", svg.stacked("Microseconds of CPU an order", rows, "µs")
    sustained = Measured(results, "sustained")
    if sustained:
        series = {
            f"{events} event(s) a message": _points(sustained.last(events, "backlog"))
            for events in sustained.names()
            if events.isdigit()
        }
        yield "backlog", svg.lines("Orders not yet final while the load is held", series, "orders")
    soak = Measured(results, "soak")
    if soak:
        samples = soak.last("samples")
        for name, title, parts in (
            ("memory", "Memory of the services", (cpu.ORDER, cpu.PROCESSOR)),
            ("outbox", "Size of the outbox tables", ("outbox of orders", "outbox of the processor")),
        ):
            over_time = {part: [(sample["seconds"], sample[part]) for sample in samples] for part in parts}
            yield name, svg.lines(title, over_time, "MB")


def _points(course: object) -> list[tuple[float, float]]:
    return [(float(at), float(value)) for at, value in course] if isinstance(course, list) else []
