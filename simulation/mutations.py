"""Known bugs, brought back one at a time: each has to be caught, or the oracle is blind to it.

A mutation edits the text of a function of the product (or of the model of an SQL statement, where the bug is
one of SQL) and compiles it anew. An edit that fits no more fails, so that none is ever lost silently.
"""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType, ModuleType
from typing import Any, cast

from simulation.database.statements import STATEMENTS


@dataclass(frozen=True, slots=True)
class Edit:
    """In the function `target` (`module:Class.method`), once: `old` becomes `new`."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """`seed` is one that is known to catch it."""

    name: str
    seed: int
    edits: Sequence[Edit]

    @contextmanager
    def applied(self) -> Iterator[None]:
        undo: list[Callable[[], None]] = []
        try:
            for target in dict.fromkeys(edit.target for edit in self.edits):
                undo.append(_replace(target, [edit for edit in self.edits if edit.target == target]))
            yield
        finally:
            for each in reversed(undo):
                each()


def _replace(target: str, edits: Sequence[Edit]) -> Callable[[], None]:
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = owner.__dict__[name]
    changed = _edited(cast(FunctionType, original), edits)
    # A function may have been imported elsewhere by its name.
    holders = [owner] if outer else [each for each in _modules() if each.__dict__.get(name) is original]
    statement = next((each for each in STATEMENTS.values() if each.model is original), None)

    def put(function: Any) -> None:
        for holder in holders:
            setattr(holder, name, function)
        if statement:
            STATEMENTS[statement.sql] = replace(statement, model=function)

    put(changed)
    return lambda: put(original)


def _modules() -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def _edited(function: FunctionType, edits: Sequence[Edit]) -> Any:
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise LookupError(f"{edit.target} does not hold once:\n{edit.old}")
        source = source.replace(edit.old, edit.new)
    original = inspect.unwrap(function)
    # A model that is compiled anew must not register itself.
    names = {**original.__globals__, "models": lambda *_: lambda model: model}
    exec(compile(source, f"<mutated {function.__qualname__}>", "exec"), names)
    return names[function.__name__]
