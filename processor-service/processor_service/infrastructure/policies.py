"""The two policies: the ruleset, and the user's own code."""

import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from random import Random

import structlog
from prometheus_client import Histogram

from processor_service.application.ports import Policy, RulesInForce, RulesNotReloaded
from processor_service.domain.decision import Decision, Postponement, RetryLater, Verdict
from processor_service.domain.order import Order
from processor_service.domain.rules import Ruleset
from service_kit.errors import StartupError
from service_kit.observability.subjects import about, traceparent_of

SETTING = "APP__POLICY"
BUILT_IN = "built in"
log = structlog.stdlib.get_logger()


class RulesetPolicy:
    """Implements Policy by rules as data, which can be replaced between two batches.

    `source` says where they come from, `problem` why newer ones did not come into force.
    """

    def __init__(self, ruleset: Ruleset, random: Random, *, source: str = BUILT_IN) -> None:
        self.source = source
        self._random = random
        self.use(ruleset)

    def use(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.loaded_at = datetime.now(UTC)
        self.problem: str | None = None

    def in_force(self) -> RulesInForce:
        return RulesInForce(
            policy=None,
            version=self.ruleset.version,
            source=self.source,
            loaded_at=self.loaded_at,
            rules=self.ruleset.rules,
            success_rate=self.ruleset.success_rate,
            problem=self.problem,
        )

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        ruleset = self.ruleset
        return [ruleset.decide(order, self._random) for order in orders]


class CallablePolicy:
    """Implements Policy by the user's callable, run for up to `concurrency_max` orders at a time.

    Decisions are kept under its `name`, where those of rules have the version of the ruleset.
    A synchronous callable runs in a thread, so that it may block. Whatever it raises, and a decision that
    takes longer than `timeout_seconds`, postpones that one order.
    """

    def __init__(
        self,
        decide: Callable[[Order], object],
        *,
        name: str = "unnamed",
        timeout_seconds: float = 30.0,
        concurrency_max: int = 32,
    ) -> None:
        self._name = name
        self._loaded_at = datetime.now(UTC)
        self._decide = decide
        self._is_async = inspect.iscoroutinefunction(decide) or inspect.iscoroutinefunction(
            type(decide).__call__
        )
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(concurrency_max)
        # asyncio's own threads are few on a small machine: orders would spend their time waiting for one.
        self._threads = ThreadPoolExecutor(concurrency_max, thread_name_prefix="policy")

    def in_force(self) -> RulesInForce:
        name = self._name
        return RulesInForce(policy=name, version=name, source=SETTING, loaded_at=self._loaded_at)

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        return await asyncio.gather(*(self._decide_one(order) for order in orders))

    async def _decide_one(self, order: Order) -> Verdict:
        try:
            async with self._slots, asyncio.timeout(self._timeout_seconds) as limit:
                decision = await self._call(order)
        except RetryLater as later:
            return later.postponement
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # it is we who are cancelled, and not something within the policy
            return Postponement(reason="the policy was cancelled")
        except Exception as error:
            if limit.expired():
                return Postponement(reason=f"the policy took longer than {self._timeout_seconds:g} s")
            fields = about("order_id", order.order_id, traceparent_of(order.order_id))
            log.warning("policy_failed", **fields, exc_info=error)
            return Postponement(reason=f"the policy failed: {type(error).__name__}: {error}")
        if isinstance(decision, Decision):
            return Decision(decision.fail_reason, ruleset_version=self._name)
        return Postponement(reason=f"the policy returned {decision!r}, not a Decision")

    async def _call(self, order: Order) -> object:
        if self._is_async:
            result = self._decide(order)
        else:
            run = copy_context().run
            result = await asyncio.get_running_loop().run_in_executor(self._threads, run, self._decide, order)
        # Of a decorator or a lambda only the result tells that what it wraps is asynchronous.
        return await result if inspect.isawaitable(result) else result


class FixedRules:
    """Implements Rules for what comes from no file."""

    def __init__(self, policy: RulesetPolicy | CallablePolicy) -> None:
        self._policy = policy

    def in_force(self) -> RulesInForce:
        return self._policy.in_force()

    async def reload(self) -> None:
        raise RulesNotReloaded("no file gives the rules; APP__RULES_FILE would name one")


class MeasuredPolicy:
    """Implements Policy by another one; observes in `duration` the seconds that each batch takes."""

    def __init__(self, policy: Policy, duration: Histogram) -> None:
        self._policy = policy
        self._duration = duration

    async def decide(self, orders: Sequence[Order]) -> Sequence[Verdict]:
        with self._duration.time():
            return await self._policy.decide(orders)


def load_policy(name: str) -> Callable[[Order], object]:
    """The callable that `module:callable` names, looked for in the current folder too.

    Raises StartupError with one line that says what is wrong.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise StartupError(f"{SETTING}: {name!r} must have the form module:callable", exit_code=2)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        policy: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            policy = getattr(policy, part)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise StartupError(f"{SETTING}: cannot load {name!r}: {text}", exit_code=2) from error
    if not callable(policy):
        raise StartupError(f"{SETTING}: {name!r} is not callable", exit_code=2)
    return policy
