"""An event loop whose time is virtual and whose every choice is drawn from the seed.

Nothing here knows files, sockets or threads. What is ready runs in an order drawn from the seed, and time
jumps to the next timer when nothing is ready, so that one seed is one history.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX = 400_000


class Owner:
    """A simulated process: whose steps they are. Dead, it takes no step again; stopped, not for now.

    `fuse` is the number of the step before which `on_fuse` is called: any await of any of its components.
    """

    __slots__ = ("fuse", "held", "name", "on_fuse", "special", "steps", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.special: Literal["", "dead", "stopped"] = ""
        self.steps = 0
        self.fuse = -1
        self.on_fuse: Callable[[], None] = _nothing
        self.held: list[Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def alive(self) -> bool:
        return self.special != "dead"

    @property
    def stopped(self) -> bool:
        return self.special == "stopped"


OWNER: ContextVar[Owner | None] = ContextVar("OWNER", default=None)
_NOBODY = Context()


class Handle:
    """A callback that waits for its turn; `owner` is the process whose step it is."""

    __slots__ = ("arguments", "call", "gone", "owner", "surroundings", "when_due")

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...], context: Context) -> None:
        self.call = call
        self.arguments = arguments
        self.surroundings = context
        self.owner: Owner | None = context.get(OWNER)
        self.gone = False
        self.when_due = 0.0

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone

    def when(self) -> float:
        return self.when_due


class SimulatedLoop(asyncio.BaseEventLoop):
    """`run` runs one history; afterwards the loop is used up."""

    def __init__(self, random: Random) -> None:
        self._draw = random.random
        self._now = 0.0
        self._waiting: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._sequence = 0
        self._buried: list[Handle] = []
        self._owners: list[Owner] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.steps = 0
        self.failures: list[str] = []
        self._used_up = False

    # what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._used_up

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: Any = None,
        context: Context | None = None,
        **_: Any,
    ) -> "asyncio.Task[Any]":
        if context is None:
            context = copy_context()
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        owner = context.get(OWNER)
        tasks = self._tasks if owner is None else owner.tasks
        tasks.append(task)
        if len(tasks) > 400:
            tasks[:] = [task for task in tasks if not task.done()]
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        self._waiting.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        handle.when_due = when
        self._sequence += 1
        heappush(self._timers, (when, self._sequence, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    # what the models ask: steps that are nobody's, such as a server's

    def soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        self._waiting.append(Handle(callback, args, _NOBODY))

    def later(self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        handle = Handle(callback, args, _NOBODY)
        if delay <= 0.0:
            self._waiting.append(handle)
            return
        self._sequence += 1
        heappush(self._timers, (self._now + delay, self._sequence, handle))

    def adopt(self, owner: Owner, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `coroutine`, and whatever it starts, as steps of `owner`."""
        context = Context()
        context.run(OWNER.set, owner)
        if owner not in self._owners:
            self._owners.append(owner)
        return self.create_task(coroutine, context=context)

    def stop_owner(self, owner: Owner) -> None:
        owner.special = "stopped"

    def resume_owner(self, owner: Owner) -> None:
        if owner.stopped:
            owner.special = ""
        self._waiting += owner.held
        owner.held = []

    # running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """The result of `main`, whose steps are nobody's. Raises what it raises."""
        asyncio._set_running_loop(self)
        try:
            task: asyncio.Task[T] = self.create_task(main, context=Context())
            self._run_until(task)
            return task.result()
        finally:
            self._end_all_tasks()
            self._used_up = True
            asyncio._set_running_loop(None)

    def _run_until(self, task: "asyncio.Task[Any]") -> None:
        draw, waiting, timers = self._draw, self._waiting, self._timers
        done, steps = task.done, 0
        while not done():
            count = len(waiting)
            if count > 1:
                chosen = int(draw() * count)
                handle = waiting[chosen]
                waiting[chosen] = waiting[-1]
                waiting.pop()
            elif count:
                handle = waiting.pop()
            elif timers:
                self._jump()
                continue
            else:
                raise RuntimeError("every task waits, and no timer is set: nothing can ever happen")
            if handle.gone:
                continue
            owner = handle.owner
            if owner is not None:
                owner.steps += 1
                if (owner.special or owner.steps == owner.fuse) and not self._may_step(owner, handle):
                    continue
            steps += 1
            handle.surroundings.run(handle.call, *handle.arguments)
            if steps > STEPS_MAX:
                raise RuntimeError(f"no end after {STEPS_MAX} steps")
        self.steps = steps

    def _jump(self) -> None:
        """To the next moment at which something is due, and to everything that is due then."""
        timers, waiting = self._timers, self._waiting
        when, _, handle = heappop(timers)
        self._now = max(when, self._now)
        while True:
            if not handle.gone:
                waiting.append(handle)
            if not timers or timers[0][0] > self._now:
                return
            handle = heappop(timers)[2]

    def _may_step(self, owner: Owner, handle: Handle) -> bool:
        if owner.alive and owner.stopped:
            owner.steps -= 1
            owner.held.append(handle)
            return False
        if owner.alive:
            owner.on_fuse()
            if owner.alive:
                return True
        # Kept: what it refers to must not be closed, and so run its `finally`, in the middle of a history.
        self._buried.append(handle)
        return False

    def _end_all_tasks(self) -> None:
        """Cancel everything, the crashed too: a coroutine that is dropped runs its `finally` at any time."""
        for owner in self._owners:
            owner.special, owner.fuse = "", -1
            self.resume_owner(owner)
            self._tasks += owner.tasks
        self._waiting += self._buried
        self._timers.clear()
        # More than once: an error on the way out takes the place of the cancellation.
        for _ in range(5):
            for task in self._tasks:
                task.cancel()
            for _ in range(100_000):
                if not self._waiting:
                    break
                handle = self._waiting.pop()
                if not handle.gone:
                    handle.surroundings.run(handle.call, *handle.arguments)
            self._tasks = [task for task in self._tasks if not task.done()]
            if not self._tasks:
                return
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


def _nothing() -> None: ...
