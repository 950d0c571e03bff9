"""Known bugs, brought back one at a time: each has to be caught, or the oracle is blind to it.

A mutation edits the text of a function of the product (or of the model of an SQL statement, where the bug is
one of SQL) and compiles it anew. An edit that does not fit any more fails, so that none is ever lost silently.
"""

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
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
    module = importlib.import_module(module_name)
    *outer, name = path.split(".")
    owner: Any = module
    for part in outer:
        owner = getattr(owner, part)
    original = owner.__dict__[name]
    changed = _edited(cast(FunctionType, original), edits)
    statement = next((each for each in STATEMENTS.values() if each.model is original), None)
    if statement:
        STATEMENTS[statement.sql] = replace(statement, model=changed)
    setattr(owner, name, changed)

    def undo() -> None:
        setattr(owner, name, original)
        if statement:
            STATEMENTS[statement.sql] = statement

    return undo


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
