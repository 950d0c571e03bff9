"""The admin API of one service, put together: its routes, and what works for them in the background."""

from starlette.routing import Route

from service_kit.admin.consuming_switch import ConsumingSwitch, ConsumingWatch
from service_kit.admin.forecasts import Forecasts
from service_kit.admin.housekeeping import LetterCountsFolder, ReplayItemsCleaner
from service_kit.admin.keys import key_routes
from service_kit.admin.replay_runner import ReplayRunner
from service_kit.admin.replays import Replays
from service_kit.admin.routes import AdminParts, admin_routes
from service_kit.admin.state import ServiceState
from service_kit.event_flow import EventFlow
from service_kit.forecast import Foresee, foresee_nothing
from service_kit.guard import Guard
from service_kit.lifecycle import BackgroundService, Wakeup
from service_kit.postgres.audit import Cause, write_audit


class AdminApi:
    """Over tables, flow and keys of one service; `foresee` is what its handler's forecasts are made by."""

    def __init__(self, flow: EventFlow, guard: Guard, foresee: Foresee = foresee_nothing) -> None:
        self._flow = flow
        self._guard = guard
        self._wakeup = Wakeup()
        self._forecasts = Forecasts(flow.database, flow.handler.decode, foresee)
        self._switch = ConsumingSwitch(flow.database, flow.consuming)
        self._state = ServiceState(flow, self._switch)

    def paused(self) -> str | None:
        """Why this service consumes nothing now, or None."""
        return self._switch.why()

    async def audit(self, cause: Cause, action: str, target: str) -> None:
        """Note a change that is not one of this database. Raises Unavailable."""
        async with self._flow.database.transaction() as connection:
            await write_audit(connection, cause, action, target, {})

    def routes(self) -> list[Route]:
        parts = AdminParts(
            database=self._flow.database,
            state=self._state,
            forecasts=self._forecasts,
            replays=Replays(self._flow.database, self._forecasts, self._wakeup),
            switch=self._switch,
        )
        return [*admin_routes(parts), *key_routes(self._guard)]

    def background_services(self) -> list[BackgroundService]:
        flow = self._flow
        return [
            ConsumingWatch(self._switch, random=flow.random),
            ReplayRunner(
                flow.database,
                self._forecasts,
                wakeup=self._wakeup,
                on_handed_over=(flow.wakeup, flow.retries_due),
                random=flow.random,
            ),
            LetterCountsFolder(flow.database, random=flow.random),
            ReplayItemsCleaner(flow.database, retention_days=30.0, random=flow.random),
        ]
