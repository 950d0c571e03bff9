"""How a service is, in one answer: also while its database is away."""

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime

from service_kit.admin.consuming_switch import ConsumingSwitch
from service_kit.errors import Unavailable
from service_kit.event_flow import EventFlow
from service_kit.http.health import Readiness
from service_kit.instance import instance_name
from service_kit.postgres.dead_letters import COUNT_LETTERS
from service_kit.version import installed_version

# The inbox has as many keys as there are events in a week: the planner's estimate is near enough; -1 is none.
BACKLOG = f"""
SELECT (SELECT count(*) FROM outbox) AS outbox_pending,
    coalesce((SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1), 0)
        AS outbox_oldest_seconds,
    (SELECT count(*) FROM retry_queue) AS retries_pending,
    (SELECT min(due_at) FROM retry_queue) AS retries_next_due_at,
    ({COUNT_LETTERS}) AS dead_letters,
    (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = 'processed_inbox'::regclass) AS inbox_keys
"""

_SECONDS_MAX = 2.0

Known = Mapping[str, object]
_UNKNOWN: Known = {
    "outbox_pending": None,
    "outbox_oldest_seconds": None,
    "retries_pending": None,
    "retries_next_due_at": None,
    "dead_letters": None,
    "inbox_keys": None,
}


class ServiceState:
    """What `GET /admin/state` answers."""

    def __init__(self, flow: EventFlow, switch: ConsumingSwitch) -> None:
        self._flow = flow
        self._switch = switch
        self._readiness = Readiness(flow.checks())
        self._started_at = datetime.now(UTC)
        self._about = {
            "service": flow.settings.service_name,
            "instance": instance_name(flow.settings),
            "version": installed_version(),
        }

    async def now(self) -> Known:
        """What is not known within two seconds is null, and `checks` say why."""
        backlog, consuming, checks = await asyncio.gather(
            self._in_time(self._backlog(), _UNKNOWN),
            self._in_time(self._switch.look(), self._switch.seen),
            self._readiness.results(),
        )
        return {
            **self._about,
            "started_at": self._started_at,
            "now": datetime.now(UTC),
            "checks": checks,
            "consuming": consuming,
            "backlog": {**backlog, "queue_messages": self._flow.subscription.waiting()},
        }

    async def _backlog(self) -> Known:
        async with self._flow.database.connection() as connection:
            record = await connection.fetchrow(BACKLOG)
        return dict(record or _UNKNOWN)

    async def _in_time(self, asking: Coroutine[None, None, Known], otherwise: Known) -> Known:
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                return await asking
        except (Unavailable, TimeoutError):
            return otherwise
