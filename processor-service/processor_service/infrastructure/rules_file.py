"""The file that replaces the built-in rules: read at the start, and looked at again and again.

A good one comes into force without a restart; a broken one leaves the rules as they are.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import ClassVar

import structlog

from processor_service.application.ports import RulesInForce, RulesNotReloaded
from processor_service.application.read_ruleset import InvalidRules, read_ruleset
from processor_service.domain.rules import Ruleset
from processor_service.infrastructure.policies import RulesetPolicy
from service_kit.errors import StartupError
from service_kit.lifecycle import BackgroundService

SETTING = "APP__RULES_FILE"
log = structlog.stdlib.get_logger()


def read_rules(path: Path, success_rate: float) -> Ruleset:
    """The ruleset in `path`, for the start. Raises StartupError with one line that names the file."""
    try:
        return read_ruleset(_read(path), success_rate)
    except RulesNotReloaded as error:
        raise StartupError(f"{SETTING}: {error}", exit_code=2) from error
    except InvalidRules as error:
        raise StartupError(f"{SETTING}: {path} is no ruleset: {error}", exit_code=2) from error


class RulesFile(BackgroundService):
    """Implements Rules: puts what is in `path` into force.

    Looks every `interval_seconds`, and judges a content that was there at two looks: a file may be seen while
    it is being written. `on_problem` is told whether there is one.
    """

    name: ClassVar[str] = "rules_file"

    def __init__(
        self,
        policy: RulesetPolicy,
        path: Path,
        *,
        on_problem: Callable[[bool], None],
        interval_seconds: float = 2.0,
        random: Random | None = None,
    ) -> None:
        super().__init__(random)
        self._policy = policy
        self._path = path
        self._on_problem = on_problem
        self._interval_seconds = interval_seconds
        self._seen = self._judged = ""

    def in_force(self) -> RulesInForce:
        return self._policy.in_force()

    async def run_once(self) -> None:
        seen = await asyncio.to_thread(_look, self._path)
        if seen == self._seen and seen != self._judged:
            try:
                await self.reload()
            except (InvalidRules, RulesNotReloaded) as error:
                log.error("rules_file_broken", path=str(self._path), reason=str(error))
            self._judged = seen
        self._seen = seen
        await self.pause(self._interval_seconds)

    async def reload(self) -> None:
        before = self._policy.ruleset
        try:
            content = await asyncio.to_thread(_read, self._path)
            ruleset = await asyncio.to_thread(read_ruleset, content, before.success_rate)
        except (InvalidRules, RulesNotReloaded) as error:
            self._policy.problem = str(error)
            self._on_problem(True)
            raise
        self._policy.problem = None
        self._on_problem(False)
        if ruleset.version != before.version:
            self._policy.use(ruleset)
            log.info(
                "rules_reloaded", version=ruleset.version, before=before.version, rules=len(ruleset.rules)
            )


def _look(path: Path) -> str:
    """What tells one content from another; a file that cannot be read has one too."""
    try:
        return sha256(_read(path)).hexdigest()
    except RulesNotReloaded as error:
        return str(error)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RulesNotReloaded(f"cannot read {path}: {error.strerror}") from error
