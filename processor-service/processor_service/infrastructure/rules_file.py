"""Rules from a TOML file."""

import tomllib
from pathlib import Path

import msgspec

from processor_service.domain.rules import Rule
from service_kit.errors import StartupError

SETTING = "APP__RULES_FILE"


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    skus: list[str]
    fail_reason: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[_Rule]


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in `path`, in their order. Raises StartupError with one line that names the file.

    The file has a table `[[rules]]` for each, with `skus = ["…"]` and `fail_reason = "…"`.
    """
    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise StartupError(f"{SETTING}: cannot read {path}: {error.strerror}", exit_code=2) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise StartupError(f"{SETTING}: {path} is no ruleset: {error}", exit_code=2) from error
    for number, rule in enumerate(file.rules, start=1):
        if not rule.skus or not rule.fail_reason.strip() or "\0" in rule.fail_reason:
            raise StartupError(f"{SETTING}: {path}: rule {number} needs skus and a fail_reason", exit_code=2)
    return tuple(Rule(skus=frozenset(rule.skus), fail_reason=rule.fail_reason) for rule in file.rules)
