"""Use case: make a ruleset of a text in TOML, or tell everything that is wrong with it."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

from processor_service.domain.rules import Rule, Ruleset

SKU_LENGTH_MAX = 255
FAIL_REASON_LENGTH_MAX = 1_000
_FAULTS_MAX = 100
_FIELDS = ("skus", "fail_reason")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, in which rule (from 1) or on which line, as far as that can be told."""

    message: str
    rule: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.rule is not None:
            return f"rule {self.rule}: {self.message}"
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class InvalidRules(Exception):
    """The text is no ruleset."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def read_ruleset(content: bytes, success_rate: float) -> Ruleset:
    """The ruleset in `content`. Raises InvalidRules with all faults.

    There is a table `[[rules]]` for each rule, with `skus = ["…"]` and `fail_reason = "…"`.
    """
    document = _document(content)
    faults = [Fault(f"{_shown(name)} is not a known field") for name in document if name != "rules"]
    tables = document.get("rules")
    if not isinstance(tables, list):
        needed = "there are no tables [[rules]]" if tables is None else "rules must be tables [[rules]]"
        raise InvalidRules([*faults, Fault(needed)])
    for number, table in enumerate(tables, start=1):
        faults += [Fault(message, rule=number) for message in _faults(table)]
    if faults:
        raise InvalidRules(faults[:_FAULTS_MAX])
    return Ruleset(
        [Rule(skus=frozenset(table["skus"]), fail_reason=table["fail_reason"]) for table in tables],
        success_rate,
    )


def _document(content: bytes) -> dict[str, object]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidRules([Fault("this is not UTF-8", line=line)]) from error
    except RecursionError as error:
        raise InvalidRules([Fault("arrays or tables are nested too deeply")]) from error
    except ValueError as error:  # tomllib.TOMLDecodeError, and numbers that Python does not read
        message = _PLACE.sub("", str(error))
        raise InvalidRules([Fault(message, line=_line(str(error), content))]) from error


def _line(error: str, content: bytes) -> int | None:
    """Which line an error of tomllib speaks of; the end of the document is on its last one."""
    place = _PLACE.search(error)
    return int(place[1] or content.count(b"\n") + 1) if place else None


def _faults(table: object) -> Iterator[str]:
    if not isinstance(table, dict):
        yield "must be a table with skus and fail_reason"
        return
    yield from (f"{_shown(name)} is not a known field" for name in table if name not in _FIELDS)
    yield from (f"{name} is missing" for name in _FIELDS if name not in table)
    if "skus" in table:
        yield from _sku_faults(table["skus"])
    if "fail_reason" in table and not _is_text(table["fail_reason"], FAIL_REASON_LENGTH_MAX):
        yield f"fail_reason must be {_text(FAIL_REASON_LENGTH_MAX)}"


def _sku_faults(skus: object) -> Iterator[str]:
    if not isinstance(skus, list) or not skus:
        yield "skus must be an array of at least one string"
        return
    for index, sku in enumerate(skus):
        if not _is_text(sku, SKU_LENGTH_MAX):
            yield f"skus[{index}] must be {_text(SKU_LENGTH_MAX)}"


def _is_text(value: object, length_max: int) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= length_max
        and bool(value.strip())
        and not any(category(character) == "Cc" for character in value)
    )


def _text(length_max: int) -> str:
    return f"a string of 1 to {length_max:,} characters, not blank, without control characters"


def _shown(name: str) -> str:
    return repr(name[:80])
