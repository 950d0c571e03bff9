"""Services return to their level, and end only when they are told to."""

from collections.abc import Iterator

from chaos.observed import Observed
from chaos.violations import Kind, Violation

MEGABYTES_MORE_MAX = 64.0
FILES_MORE_MAX = 16
_DATABASE_CONNECTIONS_MAX = 16
"""Two processes with pools of eight: a pool keeps what a peak opened for five minutes."""


def judge(observed: Observed) -> Iterator[Violation]:
    for how, count in observed.ended.items():
        yield Violation(Kind.WRONG, "a service ended by itself", how, str(count))
    for service, after in observed.after.items():
        before = observed.before[service]
        if after.megabytes > before.megabytes + MEGABYTES_MORE_MAX:
            yield _grown("memory", service, f"{before.megabytes:.0f} → {after.megabytes:.0f} MB")
        if after.broker_connections != before.broker_connections:
            yield _grown(
                "broker connections", service, f"{before.broker_connections} → {after.broker_connections}"
            )
        if after.database_connections > _DATABASE_CONNECTIONS_MAX:
            yield _grown("database connections", service, str(after.database_connections))
        if after.files > before.files + FILES_MORE_MAX:
            yield _grown("open files", service, f"{before.files} → {after.files}")


def _grown(what: str, service: str, detail: str) -> Violation:
    return Violation(Kind.WRONG, f"{what} did not return to their level", service, detail)
